# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.node.given_images import make_available
from ..modules.node_image import ARGUMENTS
from ..plugin_utils.looking_first import LookingFirst


class ActionModule(LookingFirst):
    """Runs the module where a node lacks the image and can have it."""

    ARGUMENTS = ARGUMENTS

    def look(self, options: dict[str, Any]) -> dict[str, Any]:
        return make_available(options, check_mode=True)
