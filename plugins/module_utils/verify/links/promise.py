# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the roles applied is there, and says what it said then."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode

from ...kube.promise import LABEL, Departure, departures, owner_named, promised
from ...kube.transport import ApiError
from ..result import Result, failed, ok, skipped
from ..run import Run, Target

LINK = "promise"
OWNER = "flaskops/owner"
SELECTOR = urlencode({"labelSelector": LABEL})
MAPS = f"/api/v1/configmaps?{SELECTOR}"
# Roles whose promise is about one application; their owners are role, namespace and name.
OF_APP = ("flask_app", "app_monitoring", "verify")
SHOWN = 4


def look(run: Run) -> list[Result]:
    return run.settled(lambda: _look(run))


def next_command(run: Run) -> str:
    return str(run.target.kubectl("get", "configmaps", "-A", "-l", LABEL, namespaced=False))


def _look(run: Run) -> list[Result]:
    query = f"GET {MAPS}, and each object that they name"
    maps, everywhere = read(run)
    owners = _owners(run.target)
    ours = [item for item in maps if _is_about(item, owners)]
    if not ours:
        return [skipped(LINK, "no run has written down what it applied; site.yml does")]
    items = [item for each in ours for item in promised(each)]
    emptied = [each["metadata"]["name"] for each in ours if not promised(each)]
    kinds = _Kinds(run)
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda item: _departures(run, kinds, item), items))
    unread = sum(each is None for each in found)
    differing = [one for each in found for one in each or []]
    evidence = f"{len(items) - unread} objects of {len(ours)} promises compared"
    evidence += f", {unread} may not be read" if unread else ""
    unwritten = _unwritten(run, ours, owners) if everywhere else []
    causes = [f"the promise of {owner} is gone, which says what was applied: run site.yml again" for owner in unwritten]
    causes += [f"somebody has emptied the ConfigMap {name}, which says what was applied" for name in emptied]
    causes += [words(one) for one in _first_of_each(differing)]
    if causes:
        more = f" and {len(causes) - SHOWN} more" if len(causes) > SHOWN else ""
        return [failed(LINK, evidence, "; ".join(causes[:SHOWN]) + more, query)]
    if items and unread == len(items):
        return [skipped(LINK, f"none of the {unread} objects of {len(ours)} promises may be read")]
    return [ok(LINK, f"{evidence}, all as they were applied", query)]


def read(run: Run) -> tuple[list[dict[str, Any]], bool]:
    """The promises of the whole cluster, or of the app's namespace where the account may not see more; and whether it may."""
    everywhere = True
    try:
        found = run.get(MAPS)
    except ApiError as error:
        if error.status != 403:
            raise
        everywhere, found = False, run.get(f"/api/v1/namespaces/{run.target.namespace}/configmaps?{SELECTOR}")
    return list(found.get("items", [])), everywhere


def _unwritten(run: Run, maps: list[dict[str, Any]], owners: set[str]) -> list[str]:
    """Whose objects of the app are there without their promise, where others of its promises are: who may write one, may all."""
    live = [run.deployment, *(item for items in run.stack.objects.values() for item in items)]
    there, written = ({owner_of(item) for item in found} & owners for found in (live, maps))
    return sorted(there - written) if written else []


def owner_of(item: dict[str, Any]) -> str:
    return str((item.get("metadata", {}).get("labels") or {}).get(OWNER, ""))


def _owners(target: Target) -> set[str]:
    """Who applies what is this app's alone. A schedule that the run goes on to apply is whole afterwards, whatever it is now."""
    roles = [role for role in OF_APP if role != "verify" or not target.schedule]
    return {owner_named(role, target.namespace, target.name) for role in roles}


def _is_about(config_map: dict[str, Any], owners: set[str]) -> bool:
    """Whether a promise is about this application, or about what all applications share."""
    owner = owner_of(config_map)
    return owner in owners or not owner.startswith(tuple(f"{role}." for role in OF_APP))


class _Kinds:
    """Where objects of a kind are, as the API server says; what was asked once is remembered."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.known: dict[str, dict[str, tuple[str, bool]]] = {}

    def path(self, item: dict[str, Any]) -> str:
        """The address of an object; empty where the server has no such kind."""
        version, meta = item["apiVersion"], item["metadata"]
        root = f"{'/apis' if '/' in version else '/api'}/{version}"
        if version not in self.known:
            try:
                resources = self.run.get(root).get("resources", [])
            except ApiError as error:
                if error.status != 404:
                    raise
                resources = []
            self.known[version] = {r["kind"]: (r["name"], r["namespaced"]) for r in resources if "/" not in r["name"]}
        plural, namespaced = self.known[version].get(item["kind"], ("", False))
        if not plural:
            return ""
        inside = f"/namespaces/{quote(meta['namespace'])}" if namespaced else ""
        return f"{root}{inside}/{plural}/{quote(meta['name'])}"


def _departures(run: Run, kinds: _Kinds, item: dict[str, Any]) -> list[Departure] | None:
    """How an object differs from what was promised; None where it may not be read."""
    path = kinds.path(item)
    if not path:
        return departures(item, None)
    try:
        live = run.get(path)
    except ApiError as error:
        if error.status == 403:
            return None
        if error.status != 404:
            raise
        live = None
    return departures(item, live)


def name_of(item: dict[str, Any]) -> str:
    meta = item["metadata"]
    return f"{item['kind']} {meta['namespace']}/{meta['name']}" if meta.get("namespace") else f"{item['kind']} {meta['name']}"


def _first_of_each(found: list[Departure]) -> list[Departure]:
    """One departure of each object."""
    first: dict[str, Departure] = {}
    for one in found:
        first.setdefault(name_of(one.item), one)
    return list(first.values())


def words(one: Departure) -> str:
    name = name_of(one.item)
    if not one.path:
        return f"{name} is gone"
    if one.by:
        return f"{name}: {one.by} has set {one.path}, which was not applied"
    return f"{name}: {one.path} is not what was applied"
