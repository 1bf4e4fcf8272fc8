# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a control plane without a node lacks: somebody who says that pods run, how those of Jobs end, and what they logged."""

from __future__ import annotations

import http.server
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from tests.api_rig import Rig

# Ready for long.
RUNNING = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
}
NODE = "kubelet-1"


@contextmanager
def kubelet(rig: Rig, namespace: str, exit_code: int | None = 0, node: str = "") -> Iterator[None]:
    """Report every pod of a namespace as running and ready, a moment after it was made.

    :param exit_code: with which the pods of Jobs have ended; None where they go on.
    :param node: where the pods of Jobs are; without one nobody has their logs.
    """
    ended, path = Event(), f"/api/v1/namespaces/{namespace}/pods"

    def of_a_job(pod: dict[str, Any]) -> bool:
        return any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences", []))

    def settled(pod: dict[str, Any]) -> bool:
        status = pod["status"]
        ready = any(condition["type"] == "Ready" for condition in status.get("conditions", []))
        return status["phase"] in ("Succeeded", "Failed") or (ready and (exit_code is None or not of_a_job(pod)))

    def settle(pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if of_a_job(pod) and node and not pod["spec"].get("nodeName"):
            target = {"kind": "Node", "name": node}
            rig.request("POST", f"{path}/{name}/binding", {"metadata": {"name": name}, "target": target})
        status = of_command(pod, exit_code) if of_a_job(pod) else RUNNING
        rig.request("PATCH", f"{path}/{name}/status", {"status": status}, "application/merge-patch+json")

    def work() -> None:
        while not ended.wait(0.2):
            for pod in rig.request("GET", path)["items"]:
                with suppress(AssertionError):  # it has been deleted meanwhile
                    if not settled(pod):
                        settle(pod)
                    elif pod["metadata"].get("deletionTimestamp") and pod["spec"].get("nodeName"):
                        rig.request("DELETE", f"{path}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def of_command(pod: dict[str, Any], exit_code: int | None) -> dict[str, Any]:
    """The status of a pod whose one container has ended, or with None goes on."""
    container, goes_on = pod["spec"]["containers"][0], exit_code is None
    state = (
        {"running": {}} if goes_on else {"terminated": {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}}
    )
    told = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0, "state": state}
    status = RUNNING if goes_on else {"phase": "Failed" if exit_code else "Succeeded"}
    return {**status, "containerStatuses": [{**told, "ready": goes_on}]}


@contextmanager
def logging_node(rig: Rig, text: str) -> Iterator[str]:
    """A node whose containers have all logged the same, as the API server reads it from a kubelet; the node's name."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_given: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(rig.folder / "tls.crt", rig.folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_port}},
    }
    rig.request("POST", "/api/v1/nodes", {"metadata": {"name": NODE}, "status": status})
    try:
        yield NODE
    finally:
        rig.request("DELETE", f"/api/v1/nodes/{NODE}")
        server.shutdown()
        server.server_close()
