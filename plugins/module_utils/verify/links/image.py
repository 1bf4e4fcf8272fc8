# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Deployment names the image that is expected, and its pods run it."""

from __future__ import annotations

from typing import Any

from ..facts import app_container, is_ready, pod_trouble
from ..result import Result, failed, ok
from ..run import Run

# Why a container waits that has no image to run.
NO_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}


def _lacks_image(pod: dict[str, Any]) -> bool:
    status = pod.get("status", {})
    containers = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    return any(((c.get("state") or {}).get("waiting") or {}).get("reason") in NO_IMAGE for c in containers)


def _is(image: str, wanted: str) -> bool:
    """Whether a pod runs an image, be it that an admission has written a mirror or a digest into the pod."""
    name, own = (text.rsplit("/", 1)[-1] for text in (image, wanted))
    return bool(own) and own in (name, name.partition("@")[0])


def judge(deployment: dict[str, Any], pods: list[dict[str, Any]], name: str, image: str = "") -> Result:
    """The Deployment names this very image where one is expected, every pod can have it, and the ready ones run it."""
    wanted = app_container(deployment, name).get("image", "")
    ready = [p for p in pods if is_ready(p)]
    images = {p["metadata"]["name"]: [c.get("image", "") for c in p.get("spec", {}).get("containers", [])] for p in ready}
    running = [p for p in ready if any(_is(each, wanted) for each in images[p["metadata"]["name"]])]
    evidence = f"the Deployment names {wanted}, which {len(running)} of {len(ready)} ready pods run"
    other = {each for p in running for each in images[p["metadata"]["name"]] if _is(each, wanted)} - {wanted}
    evidence += f" as {', '.join(sorted(other))}" if other else ""
    if image and wanted != image:
        return failed("image", evidence, f"the Deployment runs {wanted}, not {image}")
    lacking = [pod_trouble(p) for p in pods if _lacks_image(p)]
    if lacking:
        return failed("image", evidence, "; ".join(lacking[:3]))
    strangers = sorted(p["metadata"]["name"] for p in ready if p not in running)
    if strangers:
        return failed("image", evidence, f"ready pods with another image: {', '.join(strangers)}")
    return ok("image", evidence)


def look(run: Run) -> list[Result]:
    target = run.target
    return [run.of_deployment("image", lambda: judge(run.deployment, run.pods, target.name, target.image))]


def next_command(run: Run) -> str:
    return run.target.kubectl("describe", "pods", "-l", f"app={run.target.name}")
