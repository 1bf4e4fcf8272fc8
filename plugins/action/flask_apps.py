# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..module_utils.app.description import DescriptionError, described, ignored, spec_of
from ..modules.flask_apps import DOCUMENTATION

SPEC = spec_of(DOCUMENTATION)


class ActionModule(ActionBase):
    """Reads the descriptions of a host's applications."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        apps = {"type": "list", "elements": "dict", "required": True}
        _, given = self.validate_argument_spec(argument_spec={"apps": apps, "defaults": {"type": "dict", "default": {}}})
        host = (task_vars or {}).get("inventory_hostname", "")
        if vain := ignored(SPEC, task_vars or {}):
            name, key = vain[0]
            text = f"{name} is set for host {host} and would have no effect, since flask_apps decides:"
            return {"failed": True, "msg": f"{text} write {key} into the application's entry, or into flask_app_defaults."}
        try:
            found = described(SPEC, given["apps"], given["defaults"], host)
        except DescriptionError as error:
            return {"failed": True, "msg": str(error)}
        places = [{"namespace": app["namespace"], "app": app["name"]} for app in found if app["state"] == "present"]
        listed = [f"{app['namespace']}/{app['name']}" for app in found]
        # An environment may hold a secret.
        return {"changed": False, "apps": found, "places": places, "listed": listed, "_ansible_no_log": True}
