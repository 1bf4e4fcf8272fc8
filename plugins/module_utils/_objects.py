# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of any kind, read and applied as plain dictionaries. Private to this collection."""

from __future__ import annotations

import json
import typing as t
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode

from ansible_collections.flaskops.observability.plugins.module_utils._kube import KubeError, first_line

TIMEOUT = 60  # seconds of one request; a busy API server takes its time to publish a large definition
WORKERS = 8


def load_all(text: str) -> list[dict[str, t.Any]]:
    """The objects of a manifest.

    :raises yaml.YAMLError: when it is none.
    """
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    # PyYAML takes a lone = for a tag of YAML 1.1 that it can't construct; Prometheus' definitions have it as a choice.
    loader: t.Any = type("ManifestLoader", (base,), {})
    loader.add_constructor("tag:yaml.org,2002:value", base.construct_yaml_str)
    return [item for item in yaml.load_all(text, Loader=loader) if item]


def label(item: dict[str, t.Any]) -> str:
    """An object's kind, namespace and name, as people write them."""
    namespace = item["metadata"].get("namespace")
    return f"{item['kind']} {namespace + '/' if namespace else ''}{item['metadata']['name']}"


class Refused(KubeError):
    """The API server refused an object; `status` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Objects:
    """One API server, asked for objects by their `apiVersion` and `kind`."""

    def __init__(self, api_client: t.Any) -> None:
        self._config = api_client.configuration
        self._pool = api_client.rest_client.pool_manager
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    def request(self, method: str, path: str, query: dict[str, str] | None = None, body: t.Any = None, kind: str = "") -> t.Any:
        """Send one request and return its JSON.

        :raises Refused: with the server's own words when the status is 400 or more.
        """
        headers = {"Accept": "application/json"}
        if kind:
            headers["Content-Type"] = kind
        for setting in self._config.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
        url = str(self._config.host).rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        try:
            reply = self._pool.request(method, url, headers=headers, body=data, timeout=TIMEOUT)
        except Exception as exc:  # urllib3 has no common base for what its pool raises
            raise KubeError(f"The API at {self._config.host} gave no answer to {method} {path}: {first_line(exc)}") from exc
        if reply.status >= 400:
            try:
                text = json.loads(reply.data)["message"]
            except (ValueError, KeyError):
                text = reply.data.decode(errors="replace") or reply.reason
            raise Refused(reply.status, first_line(text))
        return json.loads(reply.data)

    def ask(self, path: str) -> tuple[int, dict[str, t.Any]]:
        """The status of a GET and, where it is 200, the answer."""
        try:
            return 200, self.request("GET", path)
        except Refused as refused:
            return refused.status, {}

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool] | None:
        """The plural of a kind and whether it lives in namespaces; None where the cluster knows no such kind."""
        if api_version not in self._kinds:
            root = "/apis/" if "/" in api_version else "/api/"
            try:
                listed = self.request("GET", root + api_version)["resources"]
            except Refused as refused:
                if refused.status != 404:
                    raise
                listed = []
            self._kinds[api_version] = {i["kind"]: (i["name"], i["namespaced"]) for i in listed if "/" not in i["name"]}
        return self._kinds[api_version].get(kind)

    def path(self, item: dict[str, t.Any], namespace: str = "") -> str | None:
        """The address of an object; `namespace` stands in where it names none. None where the kind is unknown."""
        found = self._resource(item["apiVersion"], item["kind"])
        if found is None:
            return None
        plural, namespaced = found
        root = ("/apis/" if "/" in item["apiVersion"] else "/api/") + item["apiVersion"]
        inside = item["metadata"].get("namespace") or namespace
        middle = f"/namespaces/{quote(inside)}" if namespaced else ""
        return f"{root}{middle}/{plural}/{quote(item['metadata']['name'])}"

    def get(self, item: dict[str, t.Any], namespace: str = "") -> dict[str, t.Any] | None:
        """The live object, or None."""
        path = self.path(item, namespace)
        if path is None:
            return None
        try:
            found: dict[str, t.Any] = self.request("GET", path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return found

    def apply(self, item: dict[str, t.Any], manager: str, namespace: str = "", dry_run: bool = False) -> dict[str, t.Any]:
        """Server-side apply with force; the object as it is, or with `dry_run` would be, afterwards.

        :raises Refused: when the server does not take the object.
        """
        path = self.path(item, namespace)
        if path is None:
            raise Refused(404, f"The cluster knows no {item['kind']} of {item['apiVersion']}")
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        try:
            done: dict[str, t.Any] = self.request("PATCH", path, query, item, "application/apply-patch+yaml")
        except Refused as refused:
            raise Refused(refused.status, f"{label(item)} is refused: {refused}") from refused
        return done

    def compare(self, item: dict[str, t.Any], manager: str, namespace: str = "") -> dict[str, t.Any]:
        """An object as `item`, its `live` counterpart or None, and the `paths` at which applying it would change that."""
        live = self.get(item, namespace)
        if live is None:
            return {"item": item, "live": None, "paths": ["(missing)"]}
        return {"item": item, "live": live, "paths": difference(live, self.apply(item, manager, namespace, dry_run=True))}

    def each(self, function: t.Callable[[t.Any], t.Any], items: list[t.Any]) -> list[t.Any]:
        """Call `function` for every item, several at a time, and return the results in order."""
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(function, items))


def difference(before: t.Any, after: t.Any, path: str = "") -> list[str]:
    """The paths at which two objects differ, without what the server itself keeps."""
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
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [line for k in keys for line in difference(before.get(k), after.get(k), f"{path}.{k}" if path else k)]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [line for n, pair in enumerate(zip(before, after, strict=True)) for line in difference(*pair, f"{path}[{n}]")]
    return [] if before == after else [path]


def holds(live: t.Any, wanted: t.Any) -> bool:
    """Whether `live` says all that `wanted` says; the server adds defaults of its own, but no elements to lists."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(key in live and holds(live[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(holds(*pair) for pair in zip(live, wanted, strict=True))
    return bool(live == wanted)
