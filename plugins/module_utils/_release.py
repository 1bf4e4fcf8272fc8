# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helm releases as Helm 3 stores them, read without Helm. Private to this collection."""

from __future__ import annotations

import base64
import datetime
import gzip
import hashlib
import json
import typing as t
from pathlib import Path

from ansible_collections.flaskops.observability.plugins.module_utils._objects import Objects, Refused, label, load_all
from ansible_collections.flaskops.observability.plugins.module_utils.verify import autoscalers

MANAGER = "helm"
PENDING = {"pending-install", "pending-upgrade", "pending-rollback"}


def template_digest(templates: dict[str, bytes]) -> str:
    """A hash of a chart's templates and default values, by their names."""
    digest = hashlib.sha256()
    for name in sorted(templates):
        digest.update(name.encode() + b"\0" + hashlib.sha256(templates[name]).digest())
    return digest.hexdigest()[:16]


def default_values(metadata: dict[str, t.Any], values: t.Any) -> dict[str, bytes]:
    """A chart's default values as one more of its files; none where Helm merges those of subcharts in."""
    return {} if metadata.get("dependencies") else {"values.yaml": json.dumps(values or {}, sort_keys=True).encode()}


def folder_digest(folder: str) -> str:
    """The digest of a chart in a folder; empty where there is none."""
    import yaml

    root = Path(folder)
    if not (root / "Chart.yaml").is_file():
        return ""
    files = {str(f.relative_to(root)): f.read_bytes() for f in (root / "templates").rglob("*") if f.is_file()}
    metadata = yaml.safe_load((root / "Chart.yaml").read_text())
    values = yaml.safe_load((root / "values.yaml").read_text()) if not metadata.get("dependencies") else {}
    return template_digest({**files, **default_values(metadata, values)})


class Release:
    """The newest revision of one release, and its objects.

    The format is that of Helm's Secret `sh.helm.release.v1.<name>.v<revision>`: base64 of gzip of JSON.
    """

    def __init__(self, objects: Objects, namespace: str, name: str) -> None:
        self.objects, self.namespace, self.name = objects, namespace, name
        query = {"labelSelector": f"owner=helm,name={name}"}
        found = objects.request("GET", f"/api/v1/namespaces/{namespace}/secrets", query)["items"]
        self.records = sorted(found, key=lambda secret: int(secret["metadata"]["labels"]["version"]))

    @staticmethod
    def _content(record: dict[str, t.Any]) -> dict[str, t.Any]:
        packed = base64.b64decode(base64.b64decode(record["data"]["release"]))
        content: dict[str, t.Any] = json.loads(gzip.decompress(packed))
        return content

    def newest(self) -> dict[str, t.Any]:
        """What Helm stored last, or {}."""
        return self._content(self.records[-1]) if self.records else {}

    def effective(self) -> dict[str, t.Any]:
        """The revision whose objects are to be live: the newest that is deployed, or {}."""
        for record in reversed(self.records):
            if record["metadata"]["labels"]["status"] == "deployed":
                return self._content(record)
        return {}

    def info(self) -> dict[str, t.Any]:
        """Status, chart and values of the newest revision; only `status: absent` where there is none."""
        content = self.newest()
        if not content:
            return {"status": "absent"}
        deployed = datetime.datetime.fromisoformat(content["info"]["last_deployed"])
        chart = content["chart"]
        files = {file["name"]: base64.b64decode(file["data"]) for file in chart.get("templates") or []}
        return {
            "status": content["info"]["status"],
            "revision": content["version"],
            "age": round((datetime.datetime.now(datetime.UTC) - deployed).total_seconds()),
            "chart": chart["metadata"]["name"],
            "chart_version": chart["metadata"]["version"],
            "values": content.get("config") or {},
            "digest": template_digest({**files, **default_values(chart["metadata"], chart.get("values"))}),
        }

    def manifest(self) -> list[dict[str, t.Any]]:
        """The objects of the deployed revision."""
        found = load_all(self.effective().get("manifest", ""))
        return [item for item in found if "helm.sh/hook" not in (item["metadata"].get("annotations") or {})]

    def compare(self) -> list[dict[str, t.Any]]:
        """Each object of the deployed revision, its live counterpart, and the paths at which they differ."""
        return self.objects.each(self._compare_one, self.manifest())

    def _compare_one(self, item: dict[str, t.Any]) -> dict[str, t.Any]:
        found = self.objects.compare(item, MANAGER, self.namespace)
        if found["live"] and "spec.replicas" in found["paths"] and self._is_scaled(found["live"]):
            # An autoscaler's number is no difference, and stays when others are repaired.
            found["item"] = {**item, "spec": {**item["spec"], "replicas": found["live"]["spec"]["replicas"]}}
            found["paths"].remove("spec.replicas")
        return found

    def _is_scaled(self, live: dict[str, t.Any]) -> bool:
        """Whether an autoscaler sets a workload's number of pods, or none can be read, so that one might."""
        metadata = live["metadata"]
        return autoscalers.find(self.objects.ask, metadata["namespace"], metadata["name"], live["kind"]) != ""

    def repair(self) -> list[str]:
        """Apply the objects that differ, and say which they were."""
        differing = [found["item"] for found in self.compare() if found["paths"]]
        # What is missing may be a namespace's content or a kind's definition: the order is the manifest's.
        for item in differing:
            self.objects.apply(item, MANAGER, self.namespace)
        return [label(item) for item in differing]

    def drop_pending(self) -> str:
        """Forget a revision that was never finished, so that Helm goes on from the one before; its name, or ''."""
        if not self.records or self.records[-1]["metadata"]["labels"]["status"] not in PENDING:
            return ""
        name = self.records.pop()["metadata"]["name"]
        try:
            self.objects.request("DELETE", f"/api/v1/namespaces/{self.namespace}/secrets/{name}")
        except Refused as refused:
            if refused.status != 404:
                raise
        return str(name)
