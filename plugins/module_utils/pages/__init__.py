# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages for people: what all have in common, and those that are served inside a cluster.

The report of a drill has its templates beside it (``drill/report``). The images of ``in_cluster/`` take this folder along, so it
needs only Python. A page is one file without scripts that loads nothing.
"""
