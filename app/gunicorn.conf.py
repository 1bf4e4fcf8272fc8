# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application's own hook; all else is the server's, which the role flask_image adds."""

from typing import Any

from flaskops_app import faults


def when_ready(server: Any) -> None:
    if faults.enabled():
        faults.start_in_master()
