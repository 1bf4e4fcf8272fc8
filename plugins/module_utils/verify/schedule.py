# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scheduled verification may read on a cluster, and what a former run of the role let it read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Place = tuple[str, str]  # a namespace, and a release in it

# On the Service of a release of VictoriaLogs that asks for a login: the Secrets that have it.
SECRETS = ("flaskops/login-secret", "flaskops/tls-secret")


CLUSTER = "elasticsearch.k8s.elastic.co/cluster-name"  # the operator's label of a Service
ELASTIC = {"app.kubernetes.io/managed-by": "flaskops", "app.kubernetes.io/part-of": "elastic-stack"}


@dataclass
class KnownRelease:
    """What was read of one release: whether this collection made it, and with which values; or why it can't be read."""

    marked: bool = False
    values: Json | None = None
    error: str = ""


def looks(app: str, wanted: list[str], existing: list[str]) -> list[str]:
    """The namespaces into which the pod may look: the app's own, and those of the others that exist."""
    return [app, *sorted(set(wanted) & set(existing) - {app})]


def stores(services: list[Json], namespaces: list[str]) -> list[Place]:
    """The releases of VictoriaLogs that ask for a login, as their Services say."""
    found: list[Place] = []
    for service in services:
        space, notes = service["metadata"]["namespace"], service["metadata"].get("annotations") or {}
        place = (space, notes.get("meta.helm.sh/release-name") or "")
        asks = any(name in notes for name in SECRETS) and notes.get("meta.helm.sh/release-namespace") == space
        if space in namespaces and place[1] and asks and place not in found:
            found.append(place)
    return found


def searches(services: list[Json], namespaces: list[str]) -> list[Place]:
    """The Elasticsearch objects whose Service names a reader, as role elastic_stack has it."""
    found = []
    for service in services:
        meta = service["metadata"]
        name = (meta.get("labels") or {}).get(CLUSTER, "")
        if name and meta["namespace"] in namespaces and (meta.get("annotations") or {}).get(SECRETS[0]) == reader(name):
            found.append((meta["namespace"], name))
    return found


def reader(name: str) -> str:
    """The Secret of the account that may search in an Elasticsearch of role elastic_stack."""
    return f"{name}-user-reader"


def logins(found: dict[Place, KnownRelease], readers: dict[Place, Json | None]) -> list[Json]:
    """The Secrets, by namespace, with which back ends are asked: those that a release of this collection names, and readers.

    A Service says what whoever may change it wants, so it only leads to the release, or to Secrets that have no other name.

    :param readers: the reader's Secret of each Elasticsearch, None for one that is not there or may not be read.
    """
    names: dict[str, set[str]] = {}
    for (space, name), secret in readers.items():
        if secret and ELASTIC.items() <= (secret["metadata"].get("labels") or {}).items():
            names.setdefault(space, set()).update({reader(name), f"{name}-es-http-certs-public"})
    for (space, _release), release in found.items():
        if release.marked:
            server = (release.values or {}).get("server") or {}
            notes = (server.get("service") or {}).get("annotations") or {}
            names.setdefault(space, set()).update(str(notes[key]) for key in SECRETS if key in notes)
    return [{"namespace": space, "secrets": sorted(secrets)} for space, secrets in names.items() if secrets]


def untrusted(found: dict[Place, KnownRelease]) -> list[str]:
    """The releases whose login it may not read, and why."""
    return [
        f"{space}, because its release {name} "
        + (f"can't be read ({release.error})" if release.error else "was not made by role victoria_logs")
        for (space, name), release in found.items()
        if not release.marked
    ]


def former(bindings: list[Json], app: str, namespace: str) -> list[Json]:
    """Of all bindings and roles of schedules of an app of this name, those of the one in the namespace."""
    wide = f"{namespace}-{app}-verify"

    def is_its(item: Json) -> bool:
        meta = item["metadata"]
        return meta["name"] in (wide, f"{wide}-login") or (meta["name"] == f"{app}-verify" and meta["namespace"] == namespace)

    return [
        {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "metadata": {key: item["metadata"][key] for key in ("name", "namespace")},
        }
        for item in bindings
        if is_its(item)
    ]
