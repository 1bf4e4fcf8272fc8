# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose an object is, how it is marked as ours, and what of it may be shown."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from ..credentials.guard import HIDDEN
from . import replicas
from .objects import label, members
from .replicas import MANAGER
from .transport import KubeError

Json = dict[str, Any]
Key = tuple[str, str, str, str]  # API group, kind, namespace and name

MANAGED = "app.kubernetes.io/managed-by"
OWNER = "flaskops/owner"
# On an application's namespace and objects: the environment that they were deployed for. What breaks or removes something asks
# the cluster, and not only the inventory by which it was reached.
ENVIRONMENT = "flaskops/environment"
# Annotations in which kubectl, kapp, Rancher and others keep the whole object, of a Secret with all that it holds.
COPY = re.compile(r"last-applied|^kapp\.k14s\.io/original$|^objectset\.rio\.cattle\.io/applied$")
SPECIFIED = ("apps", "autoscaling", "batch", "policy")  # API groups of whose objects each has a spec


def key_of(item: Json) -> Key:
    meta = item["metadata"]
    group = item["apiVersion"].rpartition("/")[0]
    return group, item["kind"], meta.get("namespace") or "", meta["name"]


def is_labelled(live: Json) -> bool:
    return bool((live["metadata"].get("labels") or {}).get(MANAGED) == MANAGER)


def is_ours(live: Json) -> bool:
    """Whether this collection made an object: its label says so, or the server, where somebody took the label away."""
    meta = live["metadata"]
    if (meta.get("labels") or {}).get(MANAGED):
        return is_labelled(live)
    return any(map(replicas.is_ours, meta.get("managedFields") or []))


def owner_of(live: Json) -> str:
    return str((live["metadata"].get("labels") or {}).get(OWNER) or "")


def another_environment(item: Json, live: Json) -> str:
    """The environment that an object was deployed for, where it is not that of its definition; empty where one says none."""
    wanted, found = ((side["metadata"].get("annotations") or {}).get(ENVIRONMENT, "") for side in (item, live))
    return str(found) if wanted and found != wanted else ""


def secrets_in(items: list[Json]) -> list[str]:
    """What no text may show: what Secrets hold."""
    found = []
    for item in (each for given in items for each in members(given)):
        if item.get("kind") != "Secret":
            continue
        for value in (item.get("stringData") or {}).values():
            found += [str(value), base64.b64encode(str(value).encode()).decode()]  # as it is sent
        for value in (item.get("data") or {}).values():
            found.append(str(value))
            try:
                found.append(base64.b64decode(str(value), validate=True).decode())
            except (ValueError, binascii.Error):
                continue
    # Of a file each long word; a word of three letters is no credential, and hiding it would hide half of a sentence.
    words = [word for text in found for word in re.findall(r"[^\s\"',:;{}\[\]]{16,}", text)]
    return [text for text in (*found, *words) if len(text) > 3]


def shown(live: Json | None, before: Json | None = None) -> Json:
    """An object as a difference shows it: without what the server keeps, and without what a Secret holds.

    :param before: what it was; of a Secret the keys are marked whose values were others.
    """
    if live is None:
        return {}
    kept = {key: value for key, value in live.items() if key not in ("status", "data", "stringData")}
    unseen = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
    kept["metadata"] = {key: value for key, value in live["metadata"].items() if key not in unseen}
    if notes := live["metadata"].get("annotations"):
        kept["metadata"]["annotations"] = {key: value for key, value in notes.items() if not COPY.search(key)}
    if live["kind"] == "Secret":
        values, old = live.get("data") or {}, (before or {}).get("data") or {}
        return kept | {"data": {k: f"{HIDDEN} (changed)" if k in old and old[k] != v else HIDDEN for k, v in values.items()}}
    return kept | {key: live[key] for key in ("data",) if key in live}


def prepared(definitions: list[Json], owner: str) -> list[Json]:
    """The definitions as they are applied, those of a list each for itself.

    :raises KubeError: for one that is no object, or that is there twice.
    """
    items: list[Json] = [each for item in json.loads(json.dumps(definitions, default=str)) for each in members(item)]
    seen: set[Key] = set()
    for number, item in enumerate(items):
        meta = item.get("metadata")
        names = [item.get("apiVersion"), item.get("kind"), meta.get("name") if isinstance(meta, dict) else None]
        if not isinstance(meta, dict) or not all(name and isinstance(name, str) for name in names):
            raise KubeError(
                f"Number {number + 1} of the definitions is no object: give it apiVersion, kind and metadata.name, as texts."
            )
        if not isinstance(item.get("spec", {} if item["apiVersion"].split("/")[0] not in SPECIFIED else None), dict):
            raise KubeError(f"{label(item)} has no specification: give it a spec.")
        if key_of(item) in seen:
            raise KubeError(f"{label(item)} is twice among the definitions: remove one.")
        seen.add(key_of(item))
        labels = {MANAGED: MANAGER} if item["kind"] == "Namespace" else {OWNER: owner, MANAGED: MANAGER}
        # What several share names its owner itself.
        meta["labels"] = {**labels, **(meta.get("labels") or {}), MANAGED: MANAGER}
        write_texts(meta)
        if item["kind"] == "Secret":
            encode(item)
        if template := (item.get("spec") or {}).get("template"):
            write_texts(template.get("metadata") or {})
    return items


def encode(secret: Json) -> None:
    """Write the texts of a Secret as the server keeps them, which remembers of nobody that he applied a stringData."""
    texts = secret.get("stringData") or {}
    made = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items() if isinstance(text, str)}
    if made:
        secret["data"] = {**(secret.get("data") or {}), **made}
        secret["stringData"] = {key: text for key, text in texts.items() if key not in made}  # the server refuses these
    if not secret.get("stringData"):
        secret.pop("stringData", None)


def write_texts(meta: Json) -> None:
    """Write the numbers and the like among labels and annotations as texts, since Kubernetes takes nothing else; null is none."""
    for field in {"labels", "annotations"} & meta.keys():
        given = {key: value for key, value in (meta[field] or {}).items() if value is not None}
        meta[field] = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
