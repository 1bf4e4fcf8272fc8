# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one description of an application: from what a user wrote to every option of the roles. Private to this collection.

The options, their types and their defaults stand in plugins/modules/flask_apps.py.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Json = dict[str, Any]

# The roles whose options an application has, as keys of their own or, below the role's name, of `verify` and `drill`.
ROLES = ("flask_image", "flask_app", "app_monitoring", "verify", "drill")
OWN = ("verify", "drill")
# Options of these roles that are called like one of an application and are the host's, or the run's.
HOST = {
    "flask_image": ("state",),
    "verify": ("state", "external_checks", "receivers"),
    "drill": ("state", "image", "external_checks"),
}
NAME = re.compile(r"[a-z]([-a-z0-9]{0,44}[a-z0-9])?")  # 63 without what verify's and Kubernetes' own names add
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PORTS = ("port", "metrics_port")


class DescriptionError(Exception):
    """One sentence about what is wrong with a description, and where."""


def spec_of(documentation: str) -> dict[str, Json]:
    """The options of an application as ArgumentSpecValidator takes them, from the documentation of flask_apps.

    :raises KeyError: where the documentation has no option ``apps`` with suboptions.
    """

    def spec(options: Json) -> dict[str, Json]:
        kept = ("type", "elements", "choices", "required", "default")
        return {
            name: {key: option[key] for key in kept if key in option}
            | ({"options": spec(option["suboptions"])} if "suboptions" in option else {})
            for name, option in options.items()
        }

    return spec(yaml.safe_load(documentation)["options"]["apps"]["suboptions"])


def located(name: str, host: str) -> str:
    """Which application of which host a message is about."""
    return f"The application {name} of flask_apps{f' of host {host}' if host else ''}"


def in_keys(spec: dict[str, Json], message: str) -> str:
    """A message of the role flask_app with the keys of an application in the place of its variables."""
    return re.sub(r"\bflask_app_(\w+)", lambda found: found[1] if found[1] in spec else found[0], message)


def merged(under: Json, over: Json) -> Json:
    """Two mappings as one, key by key; what *over* says counts, and lists are taken as they are."""
    both = {key: merged(under[key], over[key]) for key in under.keys() & over.keys() if _mappings(under[key], over[key])}
    return {**under, **over, **both}


def _mappings(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def variables(spec: dict[str, Json]) -> dict[str, str]:
    """The variables of roles that an application decides, with the key of each: ``{"drill_path": "drill.path"}``."""
    found = {f"{role}_{key}": f"{role}.{key}" for role in OWN for key in spec[role]["options"]}
    for role in ROLES:
        found |= {f"{role}_{key}": key for key in spec.keys() - {*OWN, *HOST.get(role, ())}}
    return found | {"external_checks_checks": "external_checks"}


def ignored(spec: dict[str, Json], set_: Iterable[str]) -> list[tuple[str, str]]:
    """Which of the variables that are set would have no effect, with the key to use instead."""
    decided = variables(spec)
    return sorted((name, decided[name]) for name in set_ if name in decided)


def _said(spec: dict[str, Json], given: Json) -> Json:
    """What the validator found, without the keys that it made up for what nobody has said."""
    found: Json = {}
    for key, value in given.items():
        inner = spec[key].get("options")
        if inner and isinstance(value, list):
            found[key] = [_without_nulls(_said(inner, item)) for item in value]
        else:
            found[key] = _without_nulls(_said(inner, value)) if inner and isinstance(value, dict) else value
    return found


def _without_nulls(given: Json) -> Json:
    return {key: value for key, value in given.items() if value is not None}


def _refuse_unknown(where: str, spec: dict[str, Json], given: Json, path: str = "") -> None:
    for key, value in given.items():
        if key not in spec:
            near = difflib.get_close_matches(str(key), spec, 3, 0.6)
            use = f"did you mean {' or '.join(near)}?" if near else f"use some of {', '.join(sorted(spec))}."
            raise DescriptionError(f"{where} has the unknown key {path}{key}: {use}")
        if "options" in spec[key]:
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, dict):
                    _refuse_unknown(where, spec[key]["options"], entry, f"{path}{key}.")


def _refuse_values(where: str, app: Json) -> None:
    if not NAME.fullmatch(app["name"]):
        raise DescriptionError(
            f"{where} can't have this name: use at most 46 lower-case letters, digits and dashes, a letter first."
        )
    if not NAMESPACE.fullmatch(app["namespace"]):
        text = f"{where} has the namespace {app['namespace']!r}: use at most 63 lower-case letters, digits and dashes."
        raise DescriptionError(text)
    for key in PORTS:
        if not 0 < app[key] < 65536:
            raise DescriptionError(f"{where} has the {key} {app[key]}: use a port from 1 to 65535.")
    if not 0 <= app["health_port"] < 65536:
        raise DescriptionError(f"{where} has the health_port {app['health_port']}: use a port from 1 to 65535, or 0.")
    for key in ("path", "health_path", "metrics_path"):
        if not app[key].startswith("/") and (app[key] or key != "path"):
            raise DescriptionError(f"{where} has the {key} {app[key]!r}: begin it with a slash.")


def outside_path(app: Json) -> str:
    """What is asked of an application from outside: its health check, or a page of it where the former is not answered there."""
    folders = [host.get("path") or "/" for host in app["hosts"] if not host["name"].startswith("*")] or ["/"]
    paths = [app["health_path"]] if app["health_port"] in (0, app["port"]) else []
    for path in [*paths, app["path"] or "/"]:
        if any(f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/") for folder in folders):
            return str(path)
    return str(folders[0])


def _public_url(where: str, app: Json) -> str:
    """The address that the stack asks from outside, of which V(hosts) stands for that of the first host that is one name."""
    if app["public_url"] != "hosts":
        return str(app["public_url"])
    host = next((each for each in app["hosts"] if not each["name"].startswith("*")), None)
    if host is None:
        raise DescriptionError(f"{where} has the public_url hosts and none that is one name: name one, or give the address.")
    encrypted = host.get("tls_secret") or app["tls_issuer"] or app["gateway"]
    return f"{'https' if encrypted else 'http'}://{host['name']}{outside_path({**app, 'hosts': [host]})}"


def described(spec: dict[str, Json], apps: list[Json], defaults: Json, host: str = "") -> list[Json]:
    """The applications, each with every option.

    :param spec: as spec_of() gives it.
    :param apps: what the user wrote; ``name`` is the one key that each must have.
    :param defaults: what all of them have in common.
    :param host: whose applications they are, for messages.
    :raises DescriptionError: for the first thing that is wrong. It names keys, and values of keys that hold no secret.
    """
    of_host = f" of host {host}" if host else ""
    common = {key: option for key, option in spec.items() if key != "name"}
    _refuse_unknown(f"flask_app_defaults{of_host}", common, defaults)
    found: list[Json] = []
    for number, given in enumerate(apps, 1):
        name = given.get("name")
        if not isinstance(name, str) or not name:
            raise DescriptionError(f"Entry {number} of flask_apps{of_host} has no name: give it one.")
        where = located(name, host)
        _refuse_unknown(where, spec, given)
        checked = ArgumentSpecValidator(spec).validate(merged(defaults, given))
        if checked.error_messages:
            raise DescriptionError(f"{where}: {checked.error_messages[0]}.")
        app = _said(spec, checked.validated_parameters)
        for role in OWN:  # an empty mapping is not filled with the defaults of its keys
            app[role] = {key: option["default"] for key, option in spec[role]["options"].items()} | app[role]
        app["namespace"] = app["namespace"] or name
        _refuse_values(where, app)
        app["public_url"] = _public_url(where, app)
        # Of no pods there is no health to ask for.
        app["probe"] = app["probe"] and (str(app["replicas"]) != "0" or bool(app["autoscale"]))
        found.append(app)
    places = [(app["namespace"], app["name"]) for app in found]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise DescriptionError(f"flask_apps{of_host} has the application {twice[1]} in namespace {twice[0]} twice: remove one.")
    return found
