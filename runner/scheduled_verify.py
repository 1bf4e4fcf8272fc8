# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduled verification: follows the chain of one application again and again, and serves what it found.

    GET  /metrics        for Prometheus
    GET  /results.json   the results of the last run
    GET  /               the same as a table
    GET  /healthz        200

VERIFY_TARGET is a JSON object with the fields of links.Target, VERIFY_EVERY the seconds from one start to the next.
"""

from __future__ import annotations

import json
import os
import threading
import time
from http import HTTPStatus
from typing import Any

import web
from flaskops_observability.verify.api import PodCluster
from flaskops_observability.verify.links import Target, verify
from flaskops_observability.verify.table import render

PREFIX = "flaskops_verify"
HELP = {
    "link_ok": "Whether a link of the monitoring chain works; absent for one that was left out.",
    "link_follows": "Whether a broken link follows from another broken one.",
    "link_seconds": "How long the check of a link took.",
    "last_run_timestamp_seconds": "When the last verification ended.",
    "duration_seconds": "How long the last verification took.",
    "interval_seconds": "Seconds from one verification to the next.",
    "runs_total": "Verifications that came to an end.",
    "errors_total": "Verifications that could not begin, because the API server served nothing.",
}


class Findings:
    """What the runs so far have found."""

    def __init__(self, target: Target, every: float) -> None:
        self.target, self.every = target, every
        self.results: list[dict[str, Any]] = []
        self.error = ""
        self.runs = self.errors = 0
        self.ended = self.duration = 0.0

    def run(self) -> None:
        """Follow the chain once; what goes wrong is remembered, and the next run tries again."""
        began = time.monotonic()
        try:
            results, _url = verify(PodCluster(), self.target)
        except Exception as error:
            # Whatever it is, the alert about a stale verification tells of it, and this process must live to say why.
            self.errors += 1
            self.error = f"{type(error).__name__}: {error}"
            print(json.dumps({"error": self.error}), flush=True)
            return
        self.results, self.error = results, ""
        self.duration, self.ended = time.monotonic() - began, time.time()
        self.runs += 1
        broken = {r["link"]: r["cause"] for r in results if r["status"] == "failed"}
        print(json.dumps({"seconds": round(self.duration, 1), "links": len(results), "broken": broken}), flush=True)

    def repeat(self) -> None:
        """Run for ever, from start to start in equal steps."""
        never = threading.Event()
        while True:
            began = time.monotonic()
            self.run()
            never.wait(max(0.0, self.every - (time.monotonic() - began)))

    def metrics(self) -> str:
        """What Prometheus scrapes."""
        own = {"namespace": self.target.namespace, "app": self.target.name}
        samples: list[tuple[str, dict[str, str], float]] = []
        for result in self.results:
            labels = {**own, "link": result["link"]}
            if result["status"] != "left_out":
                samples.append(("link_ok", labels, result["status"] == "ok"))
                samples.append(("link_follows", labels, bool(result["follows"])))
            samples.append(("link_seconds", labels, result["seconds"]))
        if self.runs:
            samples += [("last_run_timestamp_seconds", own, self.ended), ("duration_seconds", own, self.duration)]
        samples += [("interval_seconds", own, self.every), ("runs_total", own, self.runs), ("errors_total", own, self.errors)]
        lines = []
        for name, text in HELP.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {PREFIX}_{name} {text}", f"# TYPE {PREFIX}_{name} {kind}"]
            lines += [f"{PREFIX}_{name}{{{written(labels)}}} {float(value)!r}" for of, labels, value in samples if of == name]
        return "\n".join(lines) + "\n"

    def table(self) -> str:
        """The results for people."""
        who = f"{self.target.name} in namespace {self.target.namespace}"
        text = (
            render(self.results, f"{who}, {time.time() - self.ended:.0f} s ago") if self.runs else f"{who}: no run has ended yet"
        )
        return f"{text}\n{self.error}\n" if self.error else f"{text}\n"


def written(labels: dict[str, str]) -> str:
    """Labels as the text format has them."""
    quoted = {key: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for key, value in labels.items()}
    return ",".join(f'{key}="{value}"' for key, value in quoted.items())


class Handler(web.Handler):
    """The four addresses."""

    findings: Findings
    server_version = "scheduled-verify"

    def do_GET(self) -> None:
        """Answer one of the pages."""
        path = self.path.split("?")[0]
        if path == "/metrics":
            self.answer(HTTPStatus.OK, self.findings.metrics())
        elif path == "/results.json":
            found = {"ended": self.findings.ended, "error": self.findings.error, "results": self.findings.results}
            self.answer(HTTPStatus.OK, json.dumps(found), "application/json")
        elif path == "/":
            self.answer(HTTPStatus.OK, self.findings.table())
        elif path == "/healthz":
            self.answer(HTTPStatus.OK, "ok\n")
        else:
            self.answer(HTTPStatus.NOT_FOUND, "There is nothing here but /, /results.json, /metrics and /healthz.\n")


if __name__ == "__main__":
    findings = Findings(Target(**json.loads(os.environ["VERIFY_TARGET"])), float(os.environ["VERIFY_EVERY"]))
    threading.Thread(target=findings.repeat, daemon=True).start()
    web.serve(web.Server(("0.0.0.0", web.port()), type("BoundHandler", (Handler,), {"findings": findings})))
