# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ..module_utils.image.deliver import bring
from ..modules.container_image import ARGUMENTS
from ..plugin_utils.looking_first import LookingFirst


class ActionModule(LookingFirst):
    """Runs the module where an image is to be built, delivered or removed."""

    ARGUMENTS = ARGUMENTS

    def look(self, options: dict[str, Any]) -> dict[str, Any]:
        return bring(SimpleNamespace(params=options, check_mode=True))
