# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link from a log line of the app to the backend in which people search."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any
from urllib.parse import urlencode

from . import checks
from .api import ApiError
from .checks import Result

ARRIVAL = 30.0  # seconds that a line may take
PAUSE = 0.25  # seconds between two looks; Loki's tail is a web socket, which the service proxy does not carry
CONTRACT = ("namespace", "app", "container", "cluster", "level")
SELECTOR = "app.kubernetes.io/name=loki,app.kubernetes.io/component in (single-binary,gateway),variant!=headless"


def loki(run: Any) -> list[Result]:
    """A request with a fresh id is found in Loki, with the labels of the contract.

    :param run: the verification (links.Run).
    """
    target = run.target
    services = run.get(f"/api/v1/services?{urlencode({'labelSelector': SELECTOR})}").get("items", [])
    if not services:
        return [checks.left_out("loki", "no Loki is installed on this cluster; the stage logging installs it")]
    if not target.log_check:
        return [checks.left_out("loki", "switched off: the app is said to log no request id")]
    metadata, port = services[0]["metadata"], services[0]["spec"]["ports"][0]["port"]
    proxy = f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}:{port}/proxy/loki/api/v1/query_range"
    request_id = f"verify-{uuid.uuid4().hex}"
    expr = f'{{namespace="{target.namespace}", app="{target.name}"}} |= "{request_id}"'
    query = urlencode({"query": expr, "since": "5m", "limit": 10})
    began = time.monotonic()
    try:
        run.ask("/", {"X-Request-ID": request_id})
    except ApiError as error:
        return [checks.failed("loki", "no request could be sent", str(error))]
    until, never = min(run.deadline, began + ARRIVAL), threading.Event()
    while True:
        found = run.get(f"{proxy}?{query}")["data"]["result"]
        if found:
            break
        if time.monotonic() > until:
            waited = time.monotonic() - began
            cause = f"no line with {request_id} came within {waited:.0f} s: the shipper does not run, or Loki takes nothing"
            result = checks.failed("loki", f"nothing found for {expr}", cause)
            shippers = "app.kubernetes.io/name in (loki,log-collector,fluent-bit)"
            result.next_command = target.kubectl("get", "pods", "-A", "-l", shippers, namespaced=False)
            return [result]
        never.wait(PAUSE)
    elapsed = time.monotonic() - began
    labels = found[0]["stream"]
    missing = [label for label in CONTRACT if not labels.get(label)]
    if missing:
        result = checks.failed("loki", f"found after {elapsed:.1f} s", f"its stream has no label {', '.join(missing)}")
        result.next_command = target.kubectl("-n", metadata["namespace"], "get", "configmaps,secrets", namespaced=False)
        return [result]
    return [
        checks.ok("loki", f"{request_id} found after {elapsed:.1f} s with " + ", ".join(f"{k}={labels[k]}" for k in CONTRACT))
    ]
