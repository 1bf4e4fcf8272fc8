# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rendered_images
short_description: Name the images that the objects of a chart run
version_added: 0.3.0
author:
  - flaskops (@flaskops)
description:
  - Takes what C(helm template) prints and gives the images of its pods, of what an operator makes pods of, and the one that the
    Prometheus operator is told to give each Prometheus. Hooks count, except those that only C(helm test) runs.
  - The names are full ones, as a node's C(ctr) takes them, so C(docker.io/library/busybox:latest) for C(busybox).
options:
  _input:
    description: The objects of each chart, as YAML.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: See which images a chart needs
  ansible.builtin.debug:
    msg: "{{ [rendered.stdout] | flaskops.observability.rendered_images }}"
"""

RETURN = r"""
_value:
  description:
    - For each image what runs it, by the values of the label C(app.kubernetes.io/name), else C(app); V(hook) is any hook.
  type: dict
  sample: {"docker.io/grafana/grafana:13.2.0": ["grafana"]}
"""

import re
import typing as t

from ansible_collections.flaskops.observability.plugins.module_utils._objects import load_all

RELOADER = re.compile(r"--prometheus-config-reloader=(\S+)")


def rendered_images(texts: list[str]) -> dict[str, list[str]]:
    """The images of objects, each with the names of what runs it."""
    found: dict[str, set[str]] = {}
    for item in (item for text in texts for item in load_all(text)):
        metadata = item["metadata"]
        hooks = (metadata.get("annotations") or {}).get("helm.sh/hook", "")
        if hooks and set(re.split(r"[,\s]+", hooks)) <= {"test", "test-success", "test-failure"}:
            continue
        labels = metadata.get("labels") or {}
        name = "hook" if hooks else labels.get("app.kubernetes.io/name") or labels.get("app") or metadata["name"]
        for image in _images(item.get("spec")):
            found.setdefault(full_name(image), set()).add(name)
    return {image: sorted(names) for image, names in sorted(found.items())}


def _images(value: t.Any) -> t.Iterator[str]:
    """Each `image` that is text below a value, and what an operator's arguments name."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "image" and isinstance(below, str) and below:
                yield below
            else:
                yield from _images(below)
    elif isinstance(value, list):
        for below in value:
            yield from _images(below)
    elif isinstance(value, str) and (named := RELOADER.fullmatch(value)):
        yield named[1]


def full_name(image: str) -> str:
    """An image's name with its registry and its tag, which are Docker Hub and `latest` where it has none."""
    first, slash, _ = image.partition("/")
    if not slash:
        image = f"docker.io/library/{image}"
    elif not re.search(r"[.:]|^localhost$", first):
        image = f"docker.io/{image}"
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"rendered_images": rendered_images}
