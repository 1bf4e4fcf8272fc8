# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.credentials.guard import hidden_in
from ..module_utils.helm import surroundings
from ..module_utils.helm.chart import Chart, Reference
from ..module_utils.helm.program import HelmError, credentials
from ..module_utils.helm.release import Release
from ..module_utils.kube.client import api_client
from ..module_utils.kube.objects import Objects
from ..plugin_utils.cluster_action import ClusterAction
from .release import CHART, SIGN


def found_chart(reference: Reference) -> Chart | None:
    """A chart that is on this machine. Why one can't be used is said by whoever needs it."""
    try:
        return reference.find()
    except HelmError:
        return None


class ActionModule(ClusterAction):
    """Reads releases, and what is around them."""

    SPEC = {
        "namespace": {"type": "str", "required": True},
        "releases": {"type": "list", "elements": "str", "default": []},
        "adopt": {"type": "list", "elements": "str", "default": []},
        "signs": {"type": "list", "elements": "dict", "default": [], "options": SIGN},
        "charts": {"type": "list", "elements": "dict", "default": [], "options": CHART},
        "objects": {"type": "list", "elements": "dict", "default": []},
        "secrets": {"type": "list", "elements": "str", "default": []},
        "keys": {"type": "list", "elements": "dict", "default": []},
        "running": {
            "type": "dict",
            "options": {
                "kind": {"type": "str", "required": True, "choices": ["Deployment", "StatefulSet"]},
                "selector": {"type": "str", "default": ""},
                "argument": {"type": "str", "default": ""},
            },
        },
        "authorities": {"type": "list", "elements": "str", "default": []},
        "kinds": {"type": "list", "elements": "dict", "default": []},
    }
    OF_ROLE = {"namespace": "namespace"}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        objects = Objects(api_client(options["kubeconfig"] or "", options["context"] or ""))
        name = options["namespace"]
        namespace = surroundings.namespace_object(objects, name)
        releases: dict[str, Any] = {}
        foreign: dict[str, str] = {}
        for each in options["releases"]:
            if not namespace:
                releases[each] = {"status": "absent"}
                continue
            release = Release(objects, name, each)
            info = release.info()
            values = info.get("values", {})
            # Whoever gave the release a password sees it with Helm, and not here.
            releases[each] = info | ({"values": hidden_in(values, credentials(values))} if values else {})
            signs = [sign for sign in options["signs"] if sign["release"] in ("", each)]
            if each not in options["adopt"] and not release.is_ours(signs):
                foreign[each] = release.describe()
        found = [found_chart(Reference(**chart)) for chart in options["charts"]]
        return {
            "changed": False,
            "namespace": namespace,
            "releases": releases,
            "foreign": foreign,
            "neighbour": surroundings.neighbour(objects, name, options["releases"]) if namespace else "",
            "objects": surroundings.owners(objects, name, options["objects"]),
            "monitoring": surroundings.monitors(objects),
            "monitoring_labels": surroundings.monitoring_labels(objects, name, namespace),
            "missing": surroundings.missing_keys(objects, name, options["keys"]),
            "running": surroundings.running(objects, **options["running"]) if options["running"] else [],
            "authorities": surroundings.authorities(objects, name, options["authorities"]),
            "unknown": [item for item in options["kinds"] if objects.resource(item["apiVersion"], item["kind"]) is None],
            "secret_digests": surroundings.secret_digests(objects, name, options["secrets"]),
            "charts": [
                {"folder": str(chart.folder), "name": chart.name, "version": chart.version} if chart else {"folder": ""}
                for chart in found
            ],
        }
