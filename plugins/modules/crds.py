#!/usr/bin/python
# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: crds
short_description: Apply CustomResourceDefinitions, and never an older version over a newer one
version_added: 0.2.0
description:
  - Helm installs the definitions of a chart once and never upgrades them. This module applies them server-side.
  - A definition on the cluster that is newer than the one in the folder is left as it is, with a warning.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: Reports what would be applied.
  diff_mode:
    support: full
    description: Shows names and versions, not schemas.
  idempotent:
    support: full
    description: A definition that holds all that the folder's says is left as it is.
options:
  path:
    description:
      - Folder of YAML files with the definitions.
    type: path
    required: true
  version_annotation:
    description:
      - Annotation that holds a definition's version.
    type: str
    default: operator.prometheus.io/version
  timeout:
    description:
      - Seconds to wait at most until the API server serves the definitions that were applied.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Apply the definitions of the Prometheus operator
  flaskops.observability.crds:
    context: staging
    path: crds
"""

RETURN = r"""
applied:
  description: Definitions that were, or in check mode would be, applied, with the reason.
  returned: success
  type: list
  elements: str
  sample: ["probes.monitoring.coreos.com (0.92.0 to 0.93.1)"]
kept:
  description: Definitions on the cluster that are newer.
  returned: success
  type: list
  elements: str
"""

import hashlib
import json
import tempfile
import threading
import time
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils._engine import cache_dir
from ansible_collections.flaskops.observability.plugins.module_utils._kube import KubeError, api_client
from ansible_collections.flaskops.observability.plugins.module_utils._objects import Objects, holds, load_all
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful

POLL = 0.2  # seconds


def parse(file: Path) -> list[dict[str, t.Any]]:
    """The objects in a file, kept as JSON in the cache: as YAML the operator's ten files take a second and a half each time."""
    content = file.read_bytes()
    kept = cache_dir() / "definitions" / f"{hashlib.sha256(content).hexdigest()}.json"
    try:
        found: list[dict[str, t.Any]] = json.loads(kept.read_text())
    except (OSError, ValueError):
        found = load_all(content.decode())
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as fresh:
            json.dump(found, fresh)
        Path(fresh.name).rename(kept)
    return found


def read(folder: str) -> list[dict[str, t.Any]]:
    """The definitions in a folder.

    :raises KubeError: when there are none, or a file is no YAML.
    """
    import yaml

    found: list[dict[str, t.Any]] = []
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


def decide(live: dict[str, t.Any] | None, wanted: dict[str, t.Any], annotation: str) -> tuple[str, str]:
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


def established(live: dict[str, t.Any] | None) -> bool:
    """Whether the API server serves a definition."""
    # A definition that was made this moment has no conditions, as null.
    conditions = ((live or {}).get("status") or {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "path": {"type": "path", "required": True},
            "version_annotation": {"type": "str", "default": "operator.prometheus.io/version"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        wanted = read(params["path"])
        objects = Objects(api_client(params["kubeconfig"] or "", params["context"] or ""))
        live = objects.each(objects.get, wanted)
        pairs = list(zip(wanted, live, strict=True))
        decisions = [decide(old, new, params["version_annotation"]) for new, old in pairs]
        names = [item["metadata"]["name"] for item in wanted]
        applied = [f"{name} ({why})" for name, (what, why) in zip(names, decisions, strict=True) if what == "apply"]
        kept = [f"{name} ({why})" for name, (what, why) in zip(names, decisions, strict=True) if what == "keep"]
        todo = [item for item, (what, _) in zip(wanted, decisions, strict=True) if what == "apply"]
        if not module.check_mode:
            for item in todo:
                item.pop("status", None)
            objects.each(lambda item: objects.apply(item, "flaskops"), todo)
            pause, deadline = threading.Event(), time.monotonic() + params["timeout"]
            while waiting := [item["metadata"]["name"] for item in todo if not established(objects.get(item))]:
                if time.monotonic() > deadline:
                    raise KubeError(f"The API server does not serve {', '.join(waiting)} after {params['timeout']} s.")
                pause.wait(POLL)
    except KubeError as error:
        module.fail_json(msg=str(error))
    for name in kept:
        module.warn(f"The definition {name} stays as it is.")
    module.exit_json(
        changed=bool(todo), applied=applied, kept=kept, diff={"before": "", "after": "".join(f"{line}\n" for line in applied)}
    )


if __name__ == "__main__":
    careful(main)()
