# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ..module_utils.app.description import DescriptionError, described, ignored, in_keys, located, spec_of
from ..modules.flask_apps import DOCUMENTATION

SPEC = spec_of(DOCUMENTATION)
ROLE = Path(__file__).parents[2] / "roles/flask_app"


class ActionModule(ActionBase):
    """Reads the descriptions of a host's applications."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        apps = {"type": "list", "elements": "dict", "required": True}
        options = {"apps": apps, "defaults": {"type": "dict", "default": {}}, "deploy": {"type": "bool", "default": False}}
        _, given = self.validate_argument_spec(argument_spec=options)
        host = (task_vars or {}).get("inventory_hostname", "")
        if vain := ignored(SPEC, task_vars or {}):
            name, key = vain[0]
            text = f"{name} is set for host {host} and would have no effect, since flask_apps decides:"
            return {"failed": True, "msg": f"{text} write {key} into the application's entry, or into flask_app_defaults."}
        try:
            found = described(SPEC, given["apps"], given["defaults"], host)
            if given["deploy"]:
                self._check(found, task_vars or {}, host)
        except DescriptionError as error:
            return {"failed": True, "msg": str(error)}
        places = [{"namespace": app["namespace"], "app": app["name"]} for app in found if app["state"] == "present"]
        listed = [f"{app['namespace']}/{app['name']}" for app in found]
        # An environment may hold a secret.
        return {"changed": False, "apps": found, "places": places, "listed": listed, "_ansible_no_log": True}

    def _check(self, apps: list[dict[str, Any]], task_vars: dict[str, Any], host: str) -> None:
        """Refuse what the role flask_app would refuse of an application when others are built and deployed already.

        :raises DescriptionError: for the first application of which a check of the role does not hold.
        """
        defaults, rules = (
            self._loader.load_from_file(str(ROLE / folder / "main.yml"), trusted_as_template=True)
            for folder in ("defaults", "vars")
        )
        for app in apps:
            options = {f"flask_app_{key}": value for key, value in app.items()}
            if not app["image"]:
                options["flask_app_image"] = "that is built"
            templar = self._templar.copy_with_new_env(available_variables={**defaults, **task_vars, **rules, **options})
            for check in rules["__flask_app_checks"]:
                if not templar.template(check["holds"]):
                    raise DescriptionError(f"{located(app['name'], host)}: {in_keys(SPEC, templar.template(check['message']))}")
