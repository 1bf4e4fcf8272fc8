# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs import the collection by the name that it has in their image."""

from __future__ import annotations

import sys

from ansible_collections.flaskops.observability.plugins import module_utils

sys.modules["flaskops_observability"] = module_utils
