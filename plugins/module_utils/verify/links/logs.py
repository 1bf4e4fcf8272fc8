# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request that was just sent is found again in the log of a pod."""

from __future__ import annotations

import queue
import threading
import time
from urllib.parse import urlencode

from ...kube.transport import ApiError
from ..result import Result, failed, left_out, ok
from ..run import Run


def look(run: Run) -> list[Result]:
    if not run.target.log_check:
        return [left_out("logs", "switched off: the app is said to log no request id")]
    # Containers that run are read even if not ready: their lines are there all the same.
    names = [p["metadata"]["name"] for p in run.pods if p.get("status", {}).get("phase") == "Running"]
    if not names:
        cause = f"no running pod with the label app={run.target.name}"
        return [failed("logs", "no log to read", cause, f"GET {run.pods_path}")]
    try:
        marked = run.marked_request()
    except ApiError as error:
        return [failed("logs", "no request could be sent", str(error), f"GET {run.url}{run.shown}")]
    request_id, began, status = marked.id, marked.began, marked.status
    query = f"GET {run.url}{run.shown} with X-Request-ID: {request_id}, then the log of each pod"
    found: queue.Queue[tuple[str, str]] = queue.Queue()
    stop = threading.Event()
    for name in names:
        threading.Thread(target=_follow, args=(run, name, request_id, began, found, stop), daemon=True).start()
    problems = []
    try:
        for _ in names:
            pod, problem = found.get(timeout=run.seconds_left())
            if not problem:
                return [ok("logs", f"request {request_id} found in the log of {pod}", query)]
            problems.append(f"{pod}: {problem}")
    except queue.Empty:
        pass
    finally:
        stop.set()
    cause = "; ".join(problems) or (
        f"the request was answered {status}, but no line with its X-Request-ID came within {run.target.timeout:g} s"
    )
    return [failed("logs", f"{request_id} not found in the logs of {len(names)} pods", cause, query)]


def _follow(
    run: Run, pod: str, request_id: str, began: float, found: queue.Queue[tuple[str, str]], stop: threading.Event
) -> None:
    since = int(time.monotonic() - began) + 5
    query = {"follow": "true", "sinceSeconds": since, "container": _container(run, pod)}
    try:
        for line in run.cluster.lines(f"{run.base}/pods/{pod}/log?{urlencode(query)}", run.seconds_left()):
            if request_id in line:
                found.put((pod, ""))
                return
            if stop.is_set() or time.monotonic() > run.deadline:
                break
        found.put((pod, "its log ended without the request's X-Request-ID"))
    except ApiError as error:
        found.put((pod, str(error)))


def _container(run: Run, pod: str) -> str:
    for found in run.pods:
        if found["metadata"]["name"] == pod:
            names = [c["name"] for c in found.get("spec", {}).get("containers", [])]
            return run.target.name if run.target.name in names or not names else names[0]
    return run.target.name


def next_command(run: Run) -> str:
    return run.target.kubectl("logs", "-l", f"app={run.target.name}", "--tail=50")
