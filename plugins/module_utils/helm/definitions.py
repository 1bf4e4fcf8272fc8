# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CustomResourceDefinitions beside a release: Helm installs those of a chart once and never upgrades them."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from .._files import cache_dir
from ..kube.objects import METADATA, Objects, holds, label, load_all
from ..kube.transport import ApiError, KubeError

OWNER = "flaskops"
API = "apiextensions.k8s.io/v1"


def parse(file: Path) -> list[dict[str, Any]]:
    """The objects in a file, kept as JSON in the cache: as YAML the operator's ten files take a second and a half each time."""
    content = file.read_bytes()
    kept = cache_dir() / "definitions" / f"{hashlib.sha256(content).hexdigest()}.json"
    try:
        found: list[dict[str, Any]] = json.loads(kept.read_text())
    except (OSError, ValueError):
        found = load_all(content.decode())
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as fresh:
            json.dump(found, fresh)
        Path(fresh.name).rename(kept)
    return found


def read(folder: str) -> list[dict[str, Any]]:
    """The definitions in a folder.

    :raises KubeError: when there are none, or a file is no YAML.
    """
    found: list[dict[str, Any]] = []
    for file in sorted([*Path(folder).glob("*.yaml"), *Path(folder).glob("*.yml")]):
        try:
            found += parse(file)
        except (OSError, ValueError, yaml.YAMLError) as exc:
            raise KubeError(f"{file} can't be read as YAML: {' '.join(str(exc).split())}.") from exc
    found = [item for item in found if item.get("kind") == "CustomResourceDefinition"]
    if not found:
        raise KubeError(f"The folder {folder} holds no CustomResourceDefinition: give the folder of the chart's or operator's.")
    return found


def number(version: str) -> tuple[int, ...]:
    """A version as numbers that compare; a text that is none is older than all."""
    parts = version.lstrip("v").split("-")[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def decide(live: dict[str, Any] | None, wanted: dict[str, Any], annotation: str) -> tuple[str, str]:
    """What to do, 'apply', 'keep' or '', and why."""
    if live is None:
        return "apply", "missing"
    old, new = (i["metadata"].get("annotations", {}).get(annotation, "") for i in (live, wanted))
    if number(old) > number(new):
        return "keep", f"{old} is newer than {new}"
    wanted_labels = {k: wanted["metadata"].get(k, {}) for k in ("annotations", "labels")}
    if holds(live["spec"], wanted["spec"]) and holds(live["metadata"], {k: v for k, v in wanted_labels.items() if v}):
        return "", ""
    return "apply", f"{old} to {new}" if old != new else "changed by hand"


def established(live: dict[str, Any] | None) -> bool:
    """Whether the API server serves a definition."""
    # A definition that was made this moment has no conditions, as null.
    conditions = ((live or {}).get("status") or {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


class Definitions:
    """Those of a folder, and what is to be done with each.

    :param annotation: holds a definition's version.
    """

    def __init__(self, objects: Objects, folder: str, annotation: str) -> None:
        self.objects = objects
        wanted = read(folder)
        decisions = [
            (item, *decide(live, item, annotation)) for item, live in zip(wanted, objects.each(objects.get, wanted), strict=True)
        ]
        self.todo = [item for item, what, _why in decisions if what == "apply"]
        self.applied = [f"{item['metadata']['name']} ({why})" for item, what, why in decisions if what == "apply"]
        self.kept = [f"{item['metadata']['name']} ({why})" for item, what, why in decisions if what == "keep"]

    def apply(self, seconds: int) -> None:
        """Apply them, and return when the API server serves them.

        :raises KubeError: where it does not within the seconds.
        """
        made = [{key: value for key, value in item.items() if key != "status"} for item in self.todo]
        deadline = time.monotonic() + seconds
        self.objects.each(lambda item: self._until_served(self.objects.apply(item, OWNER), deadline, seconds), made)

    def _until_served(self, live: dict[str, Any] | None, deadline: float, seconds: int) -> None:
        while live and not established(live):
            left = deadline - time.monotonic()
            if left <= 0:
                raise KubeError(f"The API server does not serve {live['metadata']['name']} after {seconds} s.")
            for _event in self.objects.watch(live, live["metadata"]["resourceVersion"], left):
                break
            live = self.objects.get(live)


@dataclass
class Retired:
    """The definitions of an API group, and of the groups below it, which may be removed where nobody needs them."""

    objects: Objects
    group: str
    manager: str = ""  # only those that were applied by it
    # What does not count: objects of releases in a namespace, and objects by kind, namespace and name.
    namespace: str = ""
    releases: list[str] = field(default_factory=list)
    own: list[dict[str, Any]] = field(default_factory=list)
    # The kinds of which each object counts; of the others those count that a release made. Empty for all.
    kinds: list[str] = field(default_factory=list)

    @cached_property
    def found(self) -> list[dict[str, Any]]:
        """The definitions."""
        listed = self.objects.request("GET", f"/apis/{API}/customresourcedefinitions")["items"]
        return [
            {"apiVersion": API, "kind": "CustomResourceDefinition", **item}
            for item in listed
            if f".{item['spec']['group']}".endswith(f".{self.group}")
            and (not self.manager or self.manager in {part["manager"] for part in item["metadata"].get("managedFields") or []})
        ]

    def in_use(self) -> list[str]:
        """The objects of their kinds that somebody needs."""
        return [name for found in self.objects.each(self._needed, self.found) for name in found]

    def _needed(self, definition: dict[str, Any]) -> list[str]:
        spec = definition["spec"]
        kind, version = spec["names"]["kind"], next((item["name"] for item in spec["versions"] if item["served"]), "")
        path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
        try:
            items = self.objects.request("GET", path, accept=METADATA)["items"] or []
        except ApiError as error:
            if error.status != 404:
                raise
            return []  # it has been served by nobody yet
        own = {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in self.own}
        return [
            label({"kind": kind, "metadata": item["metadata"]})
            for item in items
            if self._counts(kind, item["metadata"])
            and (kind, item["metadata"].get("namespace"), item["metadata"]["name"]) not in own
        ]

    def _counts(self, kind: str, metadata: dict[str, Any]) -> bool:
        notes = metadata.get("annotations") or {}
        release, namespace = notes.get("meta.helm.sh/release-name", ""), notes.get("meta.helm.sh/release-namespace", "")
        if release and release in self.releases and namespace == self.namespace:
            return False
        return bool(release) or not self.kinds or kind in self.kinds

    def remove(self, seconds: int) -> None:
        """Remove them, and return when they are gone.

        :raises KubeError: where one is not gone within the seconds.
        """
        deadline = time.monotonic() + seconds
        self.objects.each(lambda item: self.objects.remove(item, "Background"), self.found)
        self.objects.each(lambda item: self.objects.until_gone(item, deadline), self.found)
