# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of any kind, read and applied as plain dictionaries. Private to this collection."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode

from .transport import ApiError, KubeCluster, KubeError, first_line, read_object

TIMEOUT = 60  # seconds of one request; a busy API server takes its time to publish a large definition
WORKERS = 8
# How the server names what it made null itself.
NULL = re.compile(r'(\S+): Invalid value: "null"')
# How it says that a port by hand and ours, which it knows by their numbers, have one name, or none.
TWO_PORTS = re.compile(r"\bports\[\d+\]\.(name|nodePort): (Duplicate|Required) value")
INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[1-9][0-9_]*|0)$")
FLOAT = re.compile(r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
# Of each object its metadata alone.
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def load_all(text: str) -> list[dict[str, Any]]:
    """The objects of a manifest, those of a list each for itself.

    :raises yaml.YAMLError: when it is none.
    """
    import yaml

    return [each for item in yaml.load_all(text, Loader=go_loader()) if item for each in members(item)]


@functools.cache
def go_loader() -> Any:
    """A loader of PyYAML that takes a scalar for what Kubernetes and Helm take it for.

    To these a date, 12:30 and a lone = are texts, and 1e3 and 0o17 are numbers.
    """
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("GoLoader", (base,), {})
    others = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
    loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] not in others] for first, pairs in base.yaml_implicit_resolvers.items()
    }
    loader.add_implicit_resolver("tag:yaml.org,2002:int", INTEGER, list("-+0123456789"))
    loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
    return loader


def members(item: Any) -> list[Any]:
    """An object, or what a list holds, such as a List or a ConfigMapList, of which Helm and kubectl make objects."""
    if not isinstance(item, dict) or not isinstance(item.get("items"), list):
        return [item]
    kind = str(item.get("kind", "")).removesuffix("List")
    named = {"apiVersion": item.get("apiVersion"), "kind": kind} if kind else {}
    return [each for part in item["items"] if isinstance(part, dict) for each in members({**named, **part})]


def label(item: dict[str, Any]) -> str:
    """An object's kind, namespace and name, as people write them."""
    namespace = item["metadata"].get("namespace")
    return f"{item['kind']} {namespace + '/' if namespace else ''}{item['metadata']['name']}"


class Objects:
    """One API server, asked for objects by their `apiVersion` and `kind`."""

    def __init__(self, api_client: Any) -> None:
        self.cluster = KubeCluster(api_client, retries=1)
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}
        self._sent: list[str] = []

    @property
    def sent(self) -> dict[str, int]:
        """How many requests were sent, by what they do."""
        return {kind: self._sent.count(kind) for kind in ("reads", "dry_runs", "writes")}

    def request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        kind: str = "",
        accept: str = "",
    ) -> Any:
        """Send one request and return its JSON.

        :param kind: the media type of *body*, where it is not JSON.
        :param accept: the media type of the answer, where it is not plain JSON.
        :raises ApiError: with the server's own words, or with the status 0 where it gave no answer.
        """
        address = path + (f"?{urlencode(query)}" if query else "")
        headers = {name: value for name, value in (("Content-Type", kind), ("Accept", accept)) if value}
        self._sent.append("reads" if method == "GET" else "dry_runs" if "dryRun" in (query or {}) else "writes")
        try:
            return read_object(*self.cluster.send(method, address, body, headers, TIMEOUT))
        except ApiError as error:
            if error.status:
                raise ApiError(error.status, first_line(error)) from error
            raise ApiError(0, f"The API at {self.cluster.host} gave no answer to {method} {path}: {first_line(error)}") from error

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """The status of a GET and, where it is 200, the answer."""
        try:
            return 200, self.request("GET", path)
        except ApiError as error:
            if not error.status:
                raise
            return error.status, {}

    def resource(self, api_version: str, kind: str) -> tuple[str, bool] | None:
        """The plural of a kind and whether it lives in namespaces; None where the cluster knows no such kind."""
        if api_version not in self._kinds:
            root = "/apis/" if "/" in api_version else "/api/"
            try:
                listed = self.request("GET", root + api_version)["resources"]
            except ApiError as error:
                if error.status != 404:
                    raise
                listed = []
            self._kinds[api_version] = {i["kind"]: (i["name"], i["namespaced"]) for i in listed if "/" not in i["name"]}
        return self._kinds[api_version].get(kind)

    def collection(self, api_version: str, kind: str, namespace: str) -> str | None:
        """The address of all objects of a kind in a namespace, or of the cluster; None where the kind is unknown."""
        found = self.resource(api_version, kind)
        if found is None:
            return None
        plural, namespaced = found
        root = ("/apis/" if "/" in api_version else "/api/") + api_version
        return f"{root}/namespaces/{quote(namespace)}/{plural}" if namespaced else f"{root}/{plural}"

    def path(self, item: dict[str, Any], namespace: str = "") -> str | None:
        """The address of an object; `namespace` stands in where it names none. None where the kind is unknown."""
        inside = item["metadata"].get("namespace") or namespace
        root = self.collection(item["apiVersion"], item["kind"], inside)
        return root and f"{root}/{quote(item['metadata']['name'])}"

    def get(self, item: dict[str, Any], namespace: str = "") -> dict[str, Any] | None:
        """The live object, or None."""
        path = self.path(item, namespace)
        if path is None:
            return None
        try:
            found: dict[str, Any] = self.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def apply(self, item: dict[str, Any], manager: str, namespace: str = "", dry_run: bool = False) -> dict[str, Any]:
        """Server-side apply with force; the object as it is, or with `dry_run` would be, afterwards.

        :raises ApiError: when the server does not take the object.
        """
        path = self.path(item, namespace)
        if path is None:
            raise ApiError(404, f"The cluster knows no {item['kind']} of {item['apiVersion']}")
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        try:
            return self._applied(item, path, query)
        except ApiError as error:
            raise ApiError(error.status, f"{label(item)} is refused: {error}") from error

    def _applied(self, item: dict[str, Any], path: str, query: dict[str, str]) -> dict[str, Any]:
        """The object after server-side apply; a map or list of a custom resource that is emptied goes first and comes back empty.

        Of one that loses its last entry the server makes null, which it refuses then. A port whose number was changed by hand
        stays beside ours, because server-side apply knows ports by number: then ours take the place of all.
        """

        def send(body: dict[str, Any]) -> dict[str, Any]:
            done: dict[str, Any] = self.request("PATCH", path, query, body, "application/apply-patch+yaml")
            return done

        try:
            return send(item)
        except ApiError as error:
            if TWO_PORTS.search(str(error)) and (ports := ports_alone(item.get("spec"))):
                put = self._put_ports(path, query, ports)
                if put is None:
                    raise  # the ports are wrong themselves
                return put if "dryRun" in query else send(item)
            first = without_empty(item, {field.lstrip("[") for field in NULL.findall(str(error))})
            if first == item:
                raise
        done = send(first)
        return done if "dryRun" in query else send(item)

    def _put_ports(self, path: str, query: dict[str, str], ports: dict[str, Any]) -> dict[str, Any] | None:
        """The object with these ports in the place of its own; None where the server refuses them."""
        unforced = {key: value for key, value in query.items() if key != "force"}
        try:
            put: dict[str, Any] = self.request("PATCH", path, unforced, {"spec": ports}, "application/strategic-merge-patch+json")
        except ApiError:
            return None
        return put

    def listed(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """The objects that a label selector takes, without what they hold: kind and metadata alone.

        :raises ApiError: where the account may not list them.
        """
        path = self.collection(api_version, kind, namespace)
        if path is None:
            return []
        try:
            found = self.request("GET", path, {"labelSelector": selector} if selector else None, accept=METADATA)["items"] or []
        except ApiError as error:
            if error.status == 404:
                return []
            raise
        return [{"apiVersion": api_version, "kind": kind, "metadata": item["metadata"]} for item in found]

    def every(self, api_version: str, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind in the whole cluster; none where the kind is unknown or the account may not list them."""
        found = self.resource(api_version, kind)
        if found is None:
            return []
        root = ("/apis/" if "/" in api_version else "/api/") + api_version
        status, answer = self.ask(f"{root}/{found[0]}")
        return list(answer["items"]) if status == 200 else []

    def remove(self, item: dict[str, Any], policy: str = "Foreground") -> None:
        """Have an object deleted, and what it owns before it.

        :param item: as it was read, so that another object of that name which came since stays.
        """
        path = self.path(item)
        if path is None:
            return
        body = {"propagationPolicy": policy, "preconditions": {"uid": item["metadata"]["uid"]}}
        try:
            self.request("DELETE", path, body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise ApiError(error.status, f"{label(item)} can't be removed: {error}") from error

    def until_gone(self, item: dict[str, Any], deadline: float) -> None:
        """Return when an object that is being deleted is gone.

        :raises KubeError: where it is still there at the `deadline`, as time.monotonic counts.
        """
        path, uid = self.path(item), item["metadata"]["uid"]
        while path is not None:
            status, live = self.ask(path)
            if status == 404 or (status == 200 and live["metadata"]["uid"] != uid):
                return
            if status != 200:
                raise ApiError(
                    status, f"Whether {label(item)} is gone can't be read ({status}): check the account's permissions."
                )
            left = deadline - time.monotonic()
            if left <= 0:
                held = ", ".join(live["metadata"].get("finalizers") or []) or "nothing that it names"
                raise KubeError(f"{label(item)} is still being deleted, held by {held}: see what keeps it, and run again.")
            for event in self.watch(item, live["metadata"]["resourceVersion"], left):
                if event["type"] == "DELETED":
                    break

    def watch(self, item: dict[str, Any], version: str, seconds: float) -> Iterator[dict[str, Any]]:
        """The events of one object since a version of it, for some seconds at most; it ends early where the connection does."""
        path = self.path(item)
        bound, name = max(1, min(30, int(seconds))), item["metadata"]["name"]
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": str(bound),
        }
        self._sent.append("reads")
        try:
            for line in self.cluster.lines(f"{str(path).rpartition('/')[0]}?{urlencode(query)}", bound + 10):
                yield json.loads(line)
        except ApiError as error:
            if error.status == 403:  # who may not watch looks again
                time.sleep(min(1.0, seconds))
            elif error.status != 410:  # the version is too old to watch from: the next read gives a newer one
                raise

    def compare(self, item: dict[str, Any], manager: str, namespace: str = "") -> dict[str, Any]:
        """An object as `item`, its `live` counterpart or None, and the `paths` at which applying it would change that."""
        live = self.get(item, namespace)
        if live is None:
            return {"item": item, "live": None, "paths": ["(missing)"]}
        after = self.apply(item, manager, namespace, dry_run=True)
        return {"item": item, "live": live, "paths": difference(live, after, said=item)}

    def each(self, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        """Call `function` for every item, several at a time, and return the results in order."""
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(function, items))


def without_empty(value: Any, fields: set[str], path: str = "") -> Any:
    """An object without its empty maps and lists at `fields`, which are paths such as ``spec.a[0].b``, and what is empty then."""
    if isinstance(value, dict):
        kept = {}
        for key, each in value.items():
            at = f"{path}.{key}" if path else key
            rest = without_empty(each, fields, at)
            if rest not in ({}, []) or (rest == each and at not in fields):
                kept[key] = rest
        return kept
    if isinstance(value, list):
        return [without_empty(each, fields, f"{path}[{number}]") for number, each in enumerate(value)]
    return value


def ports_alone(value: Any) -> Any:
    """The ports in a specification, in the place of those that are there, and the names of what has them."""
    if isinstance(value, list):
        return [rest for each in value if (rest := ports_alone(each))]
    if not isinstance(value, dict):
        return {}
    found = {key: rest for key, each in value.items() if key != "ports" and (rest := ports_alone(each))}
    if ports := value.get("ports"):
        found["ports"] = [{"$patch": "replace"}, *ports]
    return {"name": value["name"], **found} if found and "name" in value else found


def difference(before: Any, after: Any, path: str = "", said: Any = ...) -> list[str]:
    """The paths at which two objects differ, without what the server itself keeps.

    :param said: what was applied to *before*, where that is known. What others add on the way, as an admission webhook does, is
        no difference then. A value that changes or goes is one: whoever applied it before may not say it any more.
    """
    if path == "":
        before, after = (
            {k: v for k, v in side.items() if k != "status"}
            | {
                "metadata": {
                    k: v for k, v in side["metadata"].items() if k not in {"managedFields", "resourceVersion", "generation"}
                }
            }
            for side in (before, after)
        )
        if said is not ... and said.get("kind") == "Secret" and said.get("stringData"):
            said = {**said, "data": {**(said.get("data") or {}), **said["stringData"]}}
    if before is None and isinstance(after, dict) and isinstance(said, dict) and said:
        before = {}
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for k in sorted(before.keys() | after.keys()):
            at = f"{path}.{k}" if path else k
            lines += difference(before.get(k), after.get(k), at, _said(said, k, at))
        return lines
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        # Where others have added some, or have another order, nobody can tell which is whose.
        each = said if isinstance(said, list) and _paired(said, after) else [None if said is None else ...] * len(after)
        return [
            line for n, pair in enumerate(zip(before, after, strict=True)) for line in difference(*pair, f"{path}[{n}]", each[n])
        ]
    return [] if before == after or (before is None and said is None) else [path]


def _said(said: Any, key: str, path: str) -> Any:
    """What was applied at a key: None where nothing was, ``...`` where that is not known, or it is null."""
    if not isinstance(said, dict):
        return said if said is ... else None
    if key not in said or (not said[key] and path.endswith(("metadata.annotations", "metadata.labels"))):
        return None  # those that are empty have no meaning
    return ... if said[key] is None else said[key]


def _paired(said: list[Any], after: list[Any]) -> bool:
    """Whether the elements of a list are, as far as names tell, those of another one in the same order."""
    return len(said) == len(after) and all(
        one.get("name") == other.get("name")
        for one, other in zip(said, after, strict=True)
        if isinstance(one, dict) and isinstance(other, dict)
    )


def holds(live: Any, wanted: Any) -> bool:
    """Whether `live` says all that `wanted` says; the server adds defaults of its own, but no elements to lists."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(key in live and holds(live[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(holds(*pair) for pair in zip(live, wanted, strict=True))
    return bool(live == wanted)
