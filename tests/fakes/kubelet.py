# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a control plane without a node lacks: somebody who says that pods run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from tests.api_rig import Rig

RUNNING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


@contextmanager
def kubelet(rig: Rig, namespace: str) -> Iterator[None]:
    """Report every pod of a namespace as running and ready, a moment after it was made."""
    ended, path = Event(), f"/api/v1/namespaces/{namespace}/pods"

    def ready(pod: dict[str, Any]) -> bool:
        return any(condition["type"] == "Ready" for condition in pod["status"].get("conditions", []))

    def work() -> None:
        while not ended.wait(0.2):
            for pod in rig.request("GET", path)["items"]:
                with suppress(AssertionError):  # it has been deleted meanwhile
                    if not ready(pod):
                        name = pod["metadata"]["name"]
                        rig.request("PATCH", f"{path}/{name}/status", {"status": RUNNING}, "application/merge-patch+json")

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
