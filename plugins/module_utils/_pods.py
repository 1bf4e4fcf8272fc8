# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why pods are not ready. Private to this collection."""

from __future__ import annotations

import typing as t

from ansible_collections.flaskops.observability.plugins.module_utils._kube import first_line


class Trouble(t.NamedTuple):
    """Why a container isn't ready."""

    pod: str
    container: str
    reason: str
    text: str


def pod_troubles(pod: t.Any) -> list[Trouble]:
    """Return what keeps a pod from being ready, the cause first."""
    name = pod.metadata.name
    found = []
    statuses = list(pod.status.init_container_statuses or [])
    initialised = all(s.ready or (s.state and s.state.terminated and s.state.terminated.exit_code == 0) for s in statuses)
    if initialised or not statuses:
        statuses = statuses + list(pod.status.container_statuses or [])
    for status in statuses:
        if status.ready or not status.state:
            continue
        state = status.state
        if state.waiting:
            reason = state.waiting.reason or "Waiting"
            text = f"container {status.name} waits, {reason}"
            last = status.last_state.terminated if status.last_state else None
            if last:
                text += f" (last exit {last.exit_code}, {last.reason})"
            elif state.waiting.message:
                text += f" ({first_line(state.waiting.message)})"
        elif state.terminated:
            if state.terminated.exit_code == 0:
                continue
            reason = state.terminated.reason or "Error"
            text = f"container {status.name} ended with exit {state.terminated.exit_code}, {reason}"
        else:
            reason, text = "NotReady", f"container {status.name} runs but is not ready"
        found.append(Trouble(name, status.name, reason, text))
    if not found:
        for condition in pod.status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "False":
                text = f"{condition.reason} ({first_line(condition.message or '')})"
                found.append(Trouble(name, "", condition.reason or "Unschedulable", text))
        if pod.status.phase == "Failed":
            text = f"{pod.status.reason or 'Failed'} ({first_line(pod.status.message or '')})"
            found.append(Trouble(name, "", "Failed", text))
    ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
    if not found and not ready and not statuses:
        found.append(Trouble(name, "", "NotStarted", f"phase {pod.status.phase or 'Unknown'}, no container has started"))
    return found
