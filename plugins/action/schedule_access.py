# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.helm.release import Release
from ..module_utils.kube.client import api_client
from ..module_utils.kube.objects import Objects
from ..module_utils.kube.transport import ApiError, KubeError
from ..module_utils.verify import schedule
from ..module_utils.verify.given_backends import secret_problem
from ..plugin_utils.cluster_action import ClusterAction

RBAC = "rbac.authorization.k8s.io/v1"
SEARCHES = {"labelSelector": "common.k8s.elastic.co/type=elasticsearch"}
STORES = {"labelSelector": "app.kubernetes.io/name=victoria-logs-single,app.kubernetes.io/managed-by=Helm"}


class ActionModule(ClusterAction):
    """Finds what a scheduled verification may read."""

    SPEC = {
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "namespaces": {"type": "list", "elements": "str", "default": []},
        "secret": {"type": "str", "default": "", "no_log": False},
    }
    OF_ROLE = {"name": "name", "namespace": "namespace"}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        objects = Objects(api_client(options["kubeconfig"] or "", options["context"] or ""))
        name, namespace = options["name"], options["namespace"]
        labels = {"labelSelector": f"app.kubernetes.io/name=flaskops-verify,app.kubernetes.io/instance={name}"}
        queries: list[tuple[str, dict[str, str] | None]] = [
            ("/api/v1/namespaces", None),
            ("/api/v1/services", STORES),
            ("/api/v1/services", SEARCHES),
            (f"/apis/{RBAC}/rolebindings", labels),
            (f"/apis/{RBAC}/roles", labels),
        ]
        spaces, services, searching, bindings, roles = objects.each(
            lambda query: objects.request("GET", *query)["items"], queries
        )
        existing = [space["metadata"]["name"] for space in spaces]
        if options["secret"] and (namespace in existing or not self._task.check_mode):  # which may come before the app is there
            self.check_secret(objects, namespace, options["secret"])
        looks = schedule.looks(namespace, options["namespaces"], existing)
        places = schedule.stores(services, looks)
        found = dict(zip(places, objects.each(lambda place: self.release(objects, *place), places), strict=True))
        searches = schedule.searches(searching, looks)
        readers = dict(zip(searches, objects.each(lambda place: self.reader(objects, *place), searches), strict=True))
        bound = [{"apiVersion": RBAC, "kind": "RoleBinding", **item} for item in bindings]
        return {
            "namespaces": looks,
            "logins": schedule.logins(found, readers),
            "untrusted": schedule.untrusted(found),
            "former": schedule.former(bound + [{"apiVersion": RBAC, "kind": "Role", **item} for item in roles], name, namespace),
        }

    def check_secret(self, objects: Objects, namespace: str, name: str) -> None:
        """Refuse a Secret that the schedule can't use.

        A pod whose Secret is missing never starts, and one that can't use it has only errors, in the place of a verification
        that works.
        """
        try:
            live = objects.get({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}})
            problem = secret_problem({"name": name, "namespace": namespace, "found": [live] if live else []})
        except ApiError as error:
            problem = f"Secret {name} in namespace {namespace} can't be read ({error})"
        if problem:
            raise KubeError(f"{problem}: correct what {self.called('schedule_secret')} names, or leave it empty.")

    def reader(self, objects: Objects, namespace: str, name: str) -> dict[str, Any] | None:
        """The Secret of the reader of an Elasticsearch. What can't be read is not granted."""
        metadata = {"name": schedule.reader(name), "namespace": namespace}
        try:
            return objects.get({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
        except ApiError:
            return None

    def release(self, objects: Objects, namespace: str, name: str) -> schedule.KnownRelease:
        """What is known of a release. What can't be read is not granted."""
        try:
            info = Release(objects, namespace, name).info()
        except ApiError as error:
            return schedule.KnownRelease(error=str(error))
        return schedule.KnownRelease(marked=bool(info.get("marked")), values=info.get("values"))
