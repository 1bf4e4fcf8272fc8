# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why pods are not ready. Private to this collection."""

from __future__ import annotations

from typing import Any, NamedTuple

from .transport import first_line

Json = dict[str, Any]


class Trouble(NamedTuple):
    """Why a container isn't ready."""

    pod: str
    container: str
    reason: str
    text: str


def is_ready(pod: Json) -> bool:
    """Whether a pod says that it is ready."""
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod.get("status", {}).get("conditions") or [])


def pod_troubles(pod: Json) -> list[Trouble]:
    """Return what keeps a pod from being ready, the cause first."""
    name, told = pod["metadata"]["name"], pod.get("status") or {}
    found = []
    statuses = list(told.get("initContainerStatuses") or [])
    if all(_initialised(status) for status in statuses):
        statuses += told.get("containerStatuses") or []
    for status in statuses:
        state = status.get("state")
        if status.get("ready") or not state:
            continue
        if state.get("waiting") is not None:
            reason, text = _why_it_waits(status)
        elif state.get("terminated") is not None:
            code = state["terminated"].get("exitCode", 0)
            if code == 0:
                continue
            reason = state["terminated"].get("reason") or "Error"
            text = f"container {status['name']} ended with exit {code}, {reason}"
        else:
            reason, text = "NotReady", f"container {status['name']} runs but is not ready"
        found.append(Trouble(name, status["name"], reason, text))
    if not found:
        for condition in told.get("conditions") or []:
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                text = f"{condition.get('reason')} ({first_line(condition.get('message') or '')})"
                found.append(Trouble(name, "", condition.get("reason") or "Unschedulable", text))
        if told.get("phase") == "Failed":
            text = f"{told.get('reason') or 'Failed'} ({first_line(told.get('message') or '')})"
            found.append(Trouble(name, "", "Failed", text))
    if not found and not is_ready(pod) and not statuses:
        found.append(Trouble(name, "", "NotStarted", f"phase {told.get('phase') or 'Unknown'}, no container has started"))
    return found


def _initialised(status: Json) -> bool:
    ended = (status.get("state") or {}).get("terminated")
    return bool(status.get("ready") or (ended and ended.get("exitCode", 0) == 0))


def _why_it_waits(status: Json) -> tuple[str, str]:
    waiting = status["state"]["waiting"]
    reason = waiting.get("reason") or "Waiting"
    text = f"container {status['name']} waits, {reason}"
    last = (status.get("lastState") or {}).get("terminated")
    if last:
        text += f" (last exit {last.get('exitCode', 0)}, {last.get('reason')})"
    elif waiting.get("message"):
        text += f" ({first_line(waiting['message'])})"
    return reason, text
