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
from ..facts import app_container
from ..result import Result, failed, ok, skipped
from ..run import Run

OWN = 10.0  # seconds that the lines of the other pods may take when one has come


def look(run: Run) -> list[Result]:
    if not run.target.log_check:
        return [skipped("logs", "skipped by log_check: the app logs no request id")]
    # Containers that run are read even if not ready: their lines are there all the same.
    names = [p["metadata"]["name"] for p in run.pods if p.get("status", {}).get("phase") == "Running"]
    if not names:
        cause = f"no running pod with the label app={run.target.name}"
        return [failed("logs", "no log to read", cause, f"GET {run.pods_path}")]
    try:
        marked = run.marked_request()
    except ApiError as error:
        return [failed("logs", "no request could be sent", str(error), f"GET {run.url}{run.shown}")]
    own = {mark.pod: mark for mark in run.marked_pods() if not mark.problem}
    query = f"GET {run.url}{run.shown} with X-Request-ID: {marked.id}, then the log of each pod"
    found: queue.Queue[tuple[str, str, str]] = queue.Queue()
    stop = threading.Event()
    for name in names:
        wanted = {marked.id} | ({own[name].id} if name in own else set())
        threading.Thread(target=_follow, args=(run, name, wanted, marked.began, found, stop), daemon=True).start()
    problems, ended, where = [], 0, ""
    until = run.deadline
    missing = {mark.id: mark for mark in own.values() if mark.pod in names}
    try:
        while ended < len(names) and (missing or not where):
            pod, request_id, problem = found.get(timeout=max(until - time.monotonic(), 0.1))
            missing.pop(request_id, None)
            if request_id == marked.id:
                where, until = pod, min(run.deadline, time.monotonic() + OWN)
            elif not request_id:
                ended += 1
                problems += [f"{pod}: {problem}"] if problem else []
    except queue.Empty:
        pass
    finally:
        stop.set()
    if not where:
        cause = "; ".join(problems) or (
            f"the request was answered {marked.status}, but no line with its X-Request-ID came within {run.target.timeout:g} s"
        )
        return [failed("logs", f"{marked.id} not found in the logs of {len(names)} pods", cause, query)]
    evidence = f"request {marked.id} found in the log of {where}"
    if missing:
        silent = ", ".join(mark.place for mark in list(missing.values())[:4])
        return [failed("logs", evidence, f"the log of {silent} has no line of a request that the pod answered", query)]
    return [ok("logs", f"{evidence}{f', and one of its own in those of {len(own)} pods' if own else ''}", query)]


def _follow(
    run: Run, pod: str, wanted: set[str], began: float, found: queue.Queue[tuple[str, str, str]], stop: threading.Event
) -> None:
    """Report for each id that the log of a pod has, and in the end why it was not followed further."""
    since = int(time.monotonic() - began) + 5
    query = {"follow": "true", "sinceSeconds": since, "container": _container(run, pod)}
    try:
        for line in run.cluster.lines(f"{run.base}/pods/{pod}/log?{urlencode(query)}", run.seconds_left()):
            for request_id in [each for each in wanted if each in line]:
                wanted.discard(request_id)
                found.put((pod, request_id, ""))
            if not wanted or stop.is_set() or time.monotonic() > run.deadline:
                break
        found.put((pod, "", "its log ended without the request's X-Request-ID" if wanted else ""))
    except ApiError as error:
        found.put((pod, "", str(error)))


def find(run: Run, wanted: set[str], began: float, seconds: float) -> str:
    """The running pod whose log has one of the ids; empty where none has within some seconds."""
    names = [p["metadata"]["name"] for p in run.pods if p.get("status", {}).get("phase") == "Running"]
    found: queue.Queue[tuple[str, str, str]] = queue.Queue()
    stop, ended, until = threading.Event(), 0, min(run.deadline, time.monotonic() + seconds)
    for name in names:
        threading.Thread(target=_follow, args=(run, name, {*wanted}, began, found, stop), daemon=True).start()
    try:
        while ended < len(names):
            pod, request_id, _problem = found.get(timeout=max(until - time.monotonic(), 0.1))
            if request_id:
                return pod
            ended += 1
    except queue.Empty:
        pass
    finally:
        stop.set()
    return ""


def silent(run: Run) -> bool:
    """Whether the app has running pods, of which none has a line in its log.

    :raises ApiError: where a log can't be read.
    """
    names = [p["metadata"]["name"] for p in run.pods if p.get("status", {}).get("phase") == "Running"]
    queries = {name: urlencode({"tailLines": 1, "container": _container(run, name)}) for name in names}
    lines = (run.cluster.lines(f"{run.base}/pods/{name}/log?{query}", run.request_seconds()) for name, query in queries.items())
    return bool(names) and not any(True for each in lines for _line in each)


def _container(run: Run, pod: str) -> str:
    """The app's container of a pod, before which an admission may have put one of its own."""
    own = app_container(run.deployment, run.target.name).get("name") or run.target.name
    for found in run.pods:
        if found["metadata"]["name"] == pod:
            names = [c["name"] for c in found.get("spec", {}).get("containers", [])]
            return own if own in names or not names else names[0]
    return own


def next_command(run: Run) -> str:
    return run.target.kubectl("logs", "-l", f"app={run.target.name}", "--tail=50")
