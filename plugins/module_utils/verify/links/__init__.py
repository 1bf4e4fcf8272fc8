# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One file for each link of the chain: how it reads, how it judges, the words of its failure, and where to look next.

A file has ``look``, which gives the rows, and where one command is right for all of its failures ``next_command``. What only
judges plain data is a function of its own, mostly ``judge``. The table of the links is chain.py.
"""
