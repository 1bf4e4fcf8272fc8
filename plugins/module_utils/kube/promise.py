# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run promised: the objects that it applied, written down beside them, and held against the cluster afterwards.

A promise is a ConfigMap for each owner. The scheduled verification reads it too, so this needs neither Ansible nor kubernetes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple, cast

Json = dict[str, Any]

LABEL = "flaskops/promise"
KEY = "objects.json"
ROOM = 600_000  # characters of all objects of a promise
LONG = 2000  # characters of a text of which only the digest is kept
# What a live object may have otherwise: others decide it, or the server does.
UNPROMISED = {
    ("status",),
    ("metadata", "creationTimestamp"),
    ("spec", "template", "metadata", "annotations", "flaskops/credentials-version"),  # follows a Secret
}
# The keys by which the server merges the elements of a list, where all of them have one.
MERGE_KEYS = ("name", "containerPort", "port", "mountPath", "topologyKey", "ip")
MONITORING = "monitoring.coreos.com"
# What the operator's definitions give a field of which nobody says anything.
DEFAULTS = (
    ("action", "replace"),
    ("blockSize", "2h"),
    ("evaluationInterval", "30s"),
    ("group", MONITORING),
    ("path", "/probe"),
    ("portName", "web"),
    ("protocol", "TCP"),
    ("retention", "120h"),
    ("scrapeInterval", "30s"),
    ("shards", 1),
    ("type", "OnNamespace"),
)


class Departure(NamedTuple):
    """How an object differs from what was promised; *path* is empty where it is gone."""

    item: Json
    path: str
    by: str = ""  # whoever wrote a field that was not promised


def owner_label(text: str) -> str:
    """An owner as the value of a label."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", ".", text).strip("._-")
    if len(plain) <= 63:
        return plain
    return f"{plain[:52].rstrip('._-')}.{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def owner_named(role: str, namespace: str, name: str) -> str:
    """The owner of what belongs to one name of a namespace, such as an application or a release, as the value of a label."""
    return owner_label(f"{role} {namespace} {name}")


def name_of(owner: str) -> str:
    """The name of an owner's promise."""
    return "promise-" + re.sub(r"[^a-z0-9.-]+", "-", owner.lower()).strip("-.")


def promise(owner: str, namespace: str, items: list[Json], labels: dict[str, str]) -> Json:
    """The ConfigMap that says what an owner's run applied.

    :param items: the objects as they were applied. Values of Secrets are not kept, and long texts as their digests.
    """
    kept = sorted((_kept(item) for item in items), key=lambda item: json.dumps([item["kind"], item["metadata"]], sort_keys=True))
    # A ConfigMap holds a MiB; of the longest objects only the names are kept then.
    for item in sorted(kept, key=lambda item: -len(json.dumps(item))):
        if len(json.dumps(kept)) < ROOM:
            break
        for key in item.keys() - {"apiVersion", "kind", "metadata"}:
            del item[key]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name_of(owner), "namespace": namespace, "labels": {**labels, LABEL: "true"}},
        "data": {KEY: json.dumps(kept, sort_keys=True, indent=1)},
    }


def _kept(item: Json) -> Json:
    kept = {key: value for key, value in item.items() if key not in ("metadata", "status", "data", "stringData")}
    meta = item["metadata"]
    kept["metadata"] = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if meta.get(key)}
    if item["apiVersion"] == "apps/v1" and "replicas" in item.get("spec", {}):
        kept["spec"] = {key: value for key, value in item["spec"].items() if key != "replicas"}  # autoscalers set it, and people
    if item["kind"] == "Secret":
        values = {**(item.get("data") or {}), **(item.get("stringData") or {})}
        kept["keys"] = sorted(key for key, value in values.items() if value)
    elif "data" in item:
        kept["data"] = item["data"]
    return cast(Json, _short(kept))


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_short(inner) for inner in value]
    return {"sha256": _digest(value)} if isinstance(value, str) and len(value) > LONG else value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def promised(config_map: Json) -> list[Json]:
    """The objects of a promise; none where somebody has emptied it."""
    try:
        found = json.loads((config_map.get("data") or {}).get(KEY, "[]"))
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def departures(wanted: Json, live: Json | None) -> list[Departure]:
    """How a live object differs from what was promised; None is one that is gone."""
    if live is None:
        return [Departure(wanted, "")]
    if wanted["kind"] == "Secret":
        gone = [key for key in wanted.get("keys", []) if not (live.get("data") or {}).get(key)]
        return [Departure(wanted, f"data.{key}") for key in gone]
    found = [Departure(wanted, path) for path in _missing(wanted, live, ())]
    if str(wanted["apiVersion"]).startswith(MONITORING) and not found:
        # The server gives such a field hardly a value of its own, so what is there was written by somebody.
        found = [Departure(wanted, path, by) for path, by in _strangers(wanted, live)]
    return found


def agreed(wanted: Json, live: Json) -> Json:
    """What an object was applied with and a live one says too: the server knows no other fields, or others decide them."""
    found: Json = {}
    for key, value in wanted.items():
        if not _missing(value, live.get(key), (key,)):
            found[key] = value
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            found[key] = agreed(value, live[key])
    return found


def _missing(wanted: Any, live: Any, path: tuple[str, ...]) -> list[str]:
    """The paths at which a live value does not say what was promised."""
    if path in UNPROMISED:
        return []
    if isinstance(wanted, dict) and set(wanted) == {"sha256"}:
        return [] if isinstance(live, str) and wanted["sha256"] == _digest(live) else [_shown(path)]
    if isinstance(wanted, dict) and (isinstance(live, dict) or live is None):
        return [line for key, value in wanted.items() for line in _missing(value, (live or {}).get(key), (*path, key))]
    if isinstance(wanted, list) and isinstance(live, list):
        return _missing_in_list(wanted, live, path)
    return [] if _same(wanted, live) else [_shown(path)]


def _missing_in_list(wanted: list[Any], live: list[Any], path: tuple[str, ...]) -> list[str]:
    key = _merge_key(wanted) if wanted and _merge_key(live) else ""
    if not key:
        if len(wanted) != len(live):
            return [_shown(path)]
        pairs = enumerate(zip(wanted, live, strict=True))
        return [line for n, (one, other) in pairs for line in _missing(one, other, (*path, f"[{n}]"))]
    there = {item[key]: item for item in live if key in item}
    found = []
    for item in wanted:
        where = (*path, f"[{item[key]}]")
        found += _missing(item, there[item[key]], where) if item[key] in there else [_shown(where)]
    return found


def _merge_key(items: list[Any]) -> str:
    """The key that tells the elements of a list apart; empty where none does."""
    if not all(isinstance(item, dict) for item in items):
        return ""
    for key in MERGE_KEYS:
        values = [item.get(key) for item in items]
        if None not in values and len(set(map(str, values))) == len(values):
            return key
    return ""


def _same(wanted: Any, live: Any) -> bool:
    # The server omits what is empty, and writes quantities in a form of its own.
    if wanted in (None, "", False, 0) or wanted == [] or wanted == {}:
        return not live
    return bool(wanted == live) or _quantity(wanted) == _quantity(live) is not None


# As numbers of any size without a rounding: 0.7 and 700m are the same.
SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}


def _quantity(value: Any) -> Decimal | None:
    """A quantity of Kubernetes as a number; None for what is none."""
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?([a-zA-Z]*)", str(value))
    if isinstance(value, bool) or not found or found[3] not in SUFFIXES:
        return None
    return Decimal(found[1] + (found[2] or "")) * SUFFIXES[found[3]]


def _shown(path: tuple[str, ...]) -> str:
    return ".".join(path).replace(".[", "[")


def _strangers(wanted: Json, live: Json) -> Iterator[tuple[str, str]]:
    """The fields of an object's specification that only others than this collection have written, with their managers.

    Who changes a field and puts it back is its manager from then on, and says no more than was promised.
    """
    entries = live["metadata"].get("managedFields") or []
    own = [_fields(entry) for entry in entries if _is_ours(entry)]
    for entry in entries:
        if _is_ours(entry) or entry.get("subresource") == "status":
            continue
        for path in sorted(_leaves(_fields(entry))):
            if not any(_has(fields, path) for fields in own) and _says_more(wanted, live, ("f:spec", *path)):
                yield "spec" + _field_path(path), str(entry.get("manager"))


def _says_more(wanted: Any, live: Any, path: tuple[str, ...]) -> bool:
    """Whether a live value has what was not promised, at a path of managedFields; what was promised is known to be there."""
    for part in path:
        kind, _, name = part.partition(":")
        if kind == "f" and isinstance(wanted, dict) and name in wanted:
            wanted, live = wanted[name], live.get(name)
        elif kind == "f" and isinstance(live, dict):
            return _is_added(name, live.get(name))
        elif kind == "k" and isinstance(wanted, list):
            keys = json.loads(name).items()
            found = [next((item for item in items if keys <= item.items()), None) for items in (wanted, live)]
            if None in found:
                return True
            wanted, live = found
        else:
            return True
    return _more(wanted, live)


def _more(wanted: Any, live: Any) -> bool:
    if isinstance(wanted, dict) and isinstance(live, dict):
        added = any(key not in wanted and _is_added(key, value) for key, value in live.items())
        return added or any(_more(value, live.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) != len(live) or any(_more(one, other) for one, other in zip(wanted, live, strict=True))
    return False


def _is_added(key: str, value: Any) -> bool:
    """Whether somebody wrote a value that was not promised, and not the server where nobody said anything."""
    return value not in (None, "", False, [], {}) and (key, value) not in DEFAULTS


def _is_ours(entry: Json) -> bool:
    # Helm applies what a chart holds, and this collection repairs it.
    return entry.get("manager") in ("flaskops", "helm", "Helm")


def _fields(entry: Json) -> Json:
    return cast(Json, (entry.get("fieldsV1") or {}).get("f:spec") or {})


def _leaves(fields: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, inner in fields.items():
        if key == ".":
            continue
        if inner and set(inner) != {"."}:
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key)


def _has(fields: Json, path: tuple[str, ...]) -> bool:
    for key in path:
        if key not in fields:
            return False
        fields = fields[key]
    return True


def _field_path(path: tuple[str, ...]) -> str:
    """A path of managedFields as people write one: ``f:a``, ``k:{"name":"b"}`` and ``v:"c"``."""
    found = ""
    for part in path:
        kind, _, value = part.partition(":")
        found += (
            f".{value}" if kind == "f" else f"[{','.join(map(str, json.loads(value).values()))}]" if kind == "k" else f"[{value}]"
        )
    return found
