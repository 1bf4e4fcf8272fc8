# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.credentials.served import access
from ..module_utils.kube.client import api_client
from ..module_utils.kube.objects import Objects
from ..module_utils.kube.transport import ApiError, KubeError
from ..plugin_utils.cluster_action import ClusterAction


class ActionModule(ClusterAction):
    """Reads what clients of a program need that asks for a login and speaks TLS."""

    SPEC = {
        "host": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "existing_secret": {"type": "str", "default": "", "no_log": False},
        "tls_secret": {"type": "str", "default": "", "no_log": False},
        "username": {"type": "str", "default": ""},
        "password": {"type": "str", "default": "", "no_log": True},
    }
    OF_ROLE = {name: name for name in ("namespace", "existing_secret", "tls_secret", "username", "password")}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        objects = Objects(api_client(options["kubeconfig"] or "", options["context"] or ""))
        namespace, login, tls = (options[name] for name in ("namespace", "existing_secret", "tls_secret"))

        def read(name: str) -> dict[str, Any] | None:
            return objects.get({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}})

        try:
            found = [secret for secret in objects.each(read, [name for name in (login, tls) if name]) if secret]
        except ApiError as error:
            raise KubeError(
                f"The Secrets in namespace {namespace} with the login and the certificate of {options['host']} can't be read"
                f" ({error}): use a kubeconfig that may read them."
            ) from error
        inline = {name: options[name] for name in ("username", "password")}
        given = {"host": options["host"], "namespace": namespace, "login": login, "tls": tls, "found": found, "inline": inline}
        result = access(given)
        if problem := result.pop("problem"):
            raise KubeError(
                f"{problem}: correct it, for a login is given as the keys username and password of a Secret, or as"
                f" {self.called('username')} and {self.called('password')}, and a certificate as tls.crt, tls.key and ca.crt."
            )
        return {"changed": False, **result}
