# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helm releases as Helm 3 and Helm 4 store them, read without Helm. Private to this collection."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
from typing import Any

from ..kube import autoscalers
from ..kube.objects import Objects, holds, load_all
from ..kube.transport import ApiError
from .chart import default_values, template_digest

MANAGER = "helm"
# On every record of a release that this collection made or took over. Helm (3.13 and newer) gives a new revision the labels of
# the one before it, and a rollback those of the one that it goes back to; what somebody installs by hand has none.
MARK = {"flaskops/managed": "true"}
OURS = {"app.kubernetes.io/managed-by": "flaskops"}
# Where Helm's drivers keep records, the default first.
STORES = ("secrets", "configmaps")
PENDING = {"pending-install", "pending-upgrade", "pending-rollback"}


class Release:
    """The newest revision of one release, and its objects.

    The format is that of Helm's Secret or ConfigMap `sh.helm.release.v1.<name>.v<revision>`: base64 of gzip of JSON.
    """

    def __init__(self, objects: Objects, namespace: str, name: str) -> None:
        self.objects, self.namespace, self.name = objects, namespace, name
        query = {"labelSelector": f"owner=helm,name={name}"}
        for store in STORES:
            self.folder = f"/api/v1/namespaces/{namespace}/{store}"
            found = objects.request("GET", self.folder, query)["items"]
            if found:
                break
        self.records = sorted(found, key=lambda record: int(record["metadata"]["labels"]["version"]))
        # What Helm calls the place of the records in HELM_DRIVER.
        self.driver = self.folder.rpartition("/")[2].removesuffix("s") if found else ""

    def _content(self, record: dict[str, Any]) -> dict[str, Any]:
        packed = base64.b64decode(record["data"]["release"])
        if self.folder.endswith("/secrets"):  # which have base64 of their own around everything
            packed = base64.b64decode(packed)
        content: dict[str, Any] = json.loads(gzip.decompress(packed))
        return content

    def newest(self) -> dict[str, Any]:
        """What Helm stored last, or {}."""
        return self._content(self.records[-1]) if self.records else {}

    def effective(self) -> dict[str, Any]:
        """The revision whose objects are to be live: the newest that is deployed, or {}."""
        for record in reversed(self.records):
            if record["metadata"]["labels"]["status"] == "deployed":
                return self._content(record)
        return {}

    def info(self) -> dict[str, Any]:
        """Status, chart and values of the newest revision; only `status: absent` where there is none."""
        content = self.newest()
        if not content:
            return {"status": "absent"}
        deployed = datetime.datetime.fromisoformat(content["info"]["last_deployed"])
        chart = content["chart"]
        kept = [*(chart.get("templates") or []), *(chart.get("files") or [])]
        files = {file["name"]: base64.b64decode(file["data"] or "") for file in kept}
        return {
            "status": content["info"]["status"],
            "revision": content["version"],
            "age": round((datetime.datetime.now(datetime.UTC) - deployed).total_seconds()),
            "deployed": f"{deployed.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC",
            "chart": chart["metadata"]["name"],
            "chart_version": chart["metadata"]["version"],
            "values": content.get("config") or {},
            "digest": template_digest({**files, **default_values(chart["metadata"], chart.get("values"))}),
            "marked": self.marked(),
        }

    def marked(self) -> bool:
        """Whether the newest revision carries the mark of this collection."""
        return bool(self.records) and holds(self.records[-1]["metadata"]["labels"], MARK)

    def mark(self) -> None:
        """Put the mark on every revision that lacks it."""
        for record in self.records:
            if holds(record["metadata"]["labels"], MARK):
                continue
            path, body = f"{self.folder}/{record['metadata']['name']}", {"metadata": {"labels": MARK}}
            self.objects.request("PATCH", path, {"fieldManager": "flaskops"}, body, "application/merge-patch+json")
            record["metadata"]["labels"] |= MARK

    def is_ours(self, signs: list[dict[str, Any]]) -> bool:
        """Whether this collection made the release, or there is none.

        :param signs: what tells one that this collection made before it marked them: its `values`, and an `object` beside it.
        """
        if not self.records or self.marked():
            return True
        values = self.newest().get("config") or {}
        return any(holds(values, sign["values"]) and self._is_kept(sign["object"]) for sign in signs)

    def _is_kept(self, item: dict[str, Any]) -> bool:
        live = self.objects.get(item, self.namespace)
        return live is not None and holds(live["metadata"].get("labels") or {}, OURS)

    def describe(self) -> str:
        """Chart, revision and date of the newest revision, for those who wonder whose it is."""
        info = self.info()
        return f"chart {info['chart']} {info['chart_version']}, revision {info['revision']} of {info['deployed']}"

    def manifest(self) -> list[dict[str, Any]]:
        """The objects of the deployed revision, as Helm applies them."""
        found = load_all(self.effective().get("manifest", ""))
        kept = [item for item in found if "helm.sh/hook" not in (item["metadata"].get("annotations") or {})]
        # Helm 4 applies on the server, as whom we compare: what we did not name we would take away.
        notes = {"meta.helm.sh/release-name": self.name, "meta.helm.sh/release-namespace": self.namespace}
        for item in kept:
            meta = item["metadata"]
            meta["labels"] = {**(meta.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
            meta["annotations"] = {**(meta.get("annotations") or {}), **notes}
        return kept

    def compare(self) -> list[dict[str, Any]]:
        """Each object of the deployed revision, its live counterpart, and the paths at which they differ."""
        return self.objects.each(self._compare_one, self.manifest())

    def _compare_one(self, item: dict[str, Any]) -> dict[str, Any]:
        found = self.objects.compare(item, MANAGER, self.namespace)
        if found["live"] and "spec.replicas" in found["paths"] and self._is_scaled(found["live"]):
            # An autoscaler's number is no difference, and stays when others are repaired.
            found["item"] = {**item, "spec": {**item["spec"], "replicas": found["live"]["spec"]["replicas"]}}
            found["paths"].remove("spec.replicas")
        return found

    def _is_scaled(self, live: dict[str, Any]) -> bool:
        """Whether an autoscaler sets a workload's number of pods, or none can be read, so that one might."""
        metadata = live["metadata"]
        return autoscalers.find(self.objects.ask, metadata["namespace"], metadata["name"], live["kind"]) != ""

    def drop_pending(self) -> str:
        """Forget a revision that was never finished, so that Helm goes on from the one before; its name, or ''."""
        if not self.records or self.records[-1]["metadata"]["labels"]["status"] not in PENDING:
            return ""
        name = self.records.pop()["metadata"]["name"]
        try:
            self.objects.request("DELETE", f"{self.folder}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
        return str(name)
