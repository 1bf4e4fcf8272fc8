# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduled verification: follows the chain of one application again and again, and serves what it found.

    GET  /               the results of the last run as a page
    GET  /table.txt      the same as text, for a terminal
    GET  /results.json   the same for programs
    GET  /metrics        the same for Prometheus
    GET  /healthz        200

VERIFY_TARGET is a JSON object with the fields of run.Target, VERIFY_EVERY the seconds from one start to the next.
VERIFY_BACKENDS is a JSON file with a list of log back ends and their credentials, as the option log_backends has them, read again
for each run.

Since when a row has its status is known as long as this process lives; nothing is kept in a file.

Meanwhile it writes numbered lines to its output, and asks every log back end for them (numbered_lines).
"""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import web
from flaskops_observability.kube.transport import PodCluster
from flaskops_observability.pages import verification
from flaskops_observability.verify import given_backends
from flaskops_observability.verify.chain import verify
from flaskops_observability.verify.history import History
from flaskops_observability.verify.numbered_lines import GIVEN_UP, NumberedLines
from flaskops_observability.verify.run import Run, Target
from flaskops_observability.verify.table import render

PREFIX = "flaskops_verify"
HELP = {
    "link_ok": "Whether a link of the monitoring chain works; absent for one that was skipped.",
    "link_follows": "Whether a broken link follows from another broken one.",
    "link_seconds": "How long the check of a link took.",
    "last_run_timestamp_seconds": "When the last verification ended.",
    "duration_seconds": "How long the last verification took.",
    "interval_seconds": "Seconds from one verification to the next.",
    "runs_total": "Verifications that came to an end.",
    "errors_total": "Verifications that could not begin, because the API server served nothing.",
    "lines_written_total": "Numbered lines that were written for a log back end to have.",
    "lines_late_total": "Numbered lines that were not found in a log back end in time, whatever the reason.",
    "lines_missing_total": "Numbered lines, late before, that a log back end that answers does not have.",
    "lines_double_total": "Numbered lines that a log back end has once too often.",
    "lines_unknown_total": "Numbered lines, late before, that were given up because a log back end gave no answer.",
}


class Findings:
    """What the runs so far have found."""

    def __init__(self, target: Target, every: float, credentials: str = "") -> None:
        self.target, self.every, self.credentials = target, every, credentials
        self.lines = NumberedLines(every)
        self.stop = threading.Event()
        self.results: list[dict[str, Any]] = []
        self.history = History()
        self.error = ""
        self.running = False
        self.runs = self.errors = 0
        self.ended = self.duration = 0.0
        self.began = self.next = time.time()

    def run(self) -> None:
        """Follow the chain once; what goes wrong is remembered, and the next run tries again."""
        began = time.monotonic()
        try:
            self.target.log_backends = given(self.credentials)
            with ThreadPoolExecutor(max_workers=1) as pool:
                # A line has longer than a verification.
                lines = pool.submit(self.lines.round, Run(PodCluster(), replace(self.target, timeout=GIVEN_UP)))
                results, _url = verify(PodCluster(), self.target)
                took = time.monotonic() - began
            lines.result()
        except Exception as error:
            # Whatever it is, the alert about a stale verification reports it, and this process must live to say why.
            self.errors += 1
            self.error = f"{type(error).__name__}: {error}"
            print(json.dumps({"error": self.error}), flush=True)
            return
        self.duration, self.ended = took, time.time()
        self.history.add(results, self.ended)
        self.results, self.error = [result | self.history.rows[result["link"]] for result in results], ""
        self.runs += 1
        broken = {r["link"]: r["cause"] for r in results if r["status"] == "failed"}
        said = {"seconds": round(took, 1), "links": len(results), "broken": broken, "lines": self.lines.shown()}
        print(json.dumps(said), flush=True)

    def repeat(self) -> None:
        """Run until it is told to stop, from start to start in equal steps."""
        while not self.stop.is_set():
            began, self.next = time.monotonic(), time.time() + self.every
            self.running = True
            self.run()
            self.running = False
            self.stop.wait(max(0.0, self.every - (time.monotonic() - began)))

    def found(self) -> dict[str, Any]:
        """All that is known, for programs and for the page."""
        return {
            "app": self.target.name,
            "namespace": self.target.namespace,
            "every": self.every,
            "began": self.began,
            "runs": self.runs,
            "errors": self.errors,
            "ended": self.ended,
            "seconds": self.duration,
            "next": self.next,
            "running": self.running,
            "error": self.error,
            "results": self.results,
            "changes": self.history.changes,
            "lines": self.lines.shown(),
            "lines_error": self.lines.error,
        }

    def metrics(self) -> str:
        """What Prometheus scrapes."""
        own = {"namespace": self.target.namespace, "app": self.target.name}
        samples: list[tuple[str, dict[str, str], float]] = []
        for result in self.results:
            labels = {**own, "link": result["link"]}
            if result["status"] != "skipped":
                samples.append(("link_ok", labels, result["status"] == "ok"))
                samples.append(("link_follows", labels, bool(result["follows"])))
            samples.append(("link_seconds", labels, result["seconds"]))
        if self.runs:
            samples += [("last_run_timestamp_seconds", own, self.ended), ("duration_seconds", own, self.duration)]
        samples += [("interval_seconds", own, self.every), ("runs_total", own, self.runs), ("errors_total", own, self.errors)]
        for backend, numbers in self.lines.shown().items():
            labels = {**own, "backend": backend}
            samples += [(f"lines_{name}_total", labels, value) for name, value in numbers.items() if name != "error"]
        lines = []
        for name, text in HELP.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {PREFIX}_{name} {text}", f"# TYPE {PREFIX}_{name} {kind}"]
            lines += [f"{PREFIX}_{name}{{{written(labels)}}} {float(value)!r}" for of, labels, value in samples if of == name]
        return "\n".join(lines) + "\n"

    def table(self) -> str:
        """The results for a terminal."""
        who = f"{self.target.name} in namespace {self.target.namespace}"
        text = (
            render(self.results, f"{who}, {time.time() - self.ended:.0f} s ago") if self.runs else f"{who}: no run has ended yet"
        )
        for backend, numbers in self.lines.shown().items():
            counts = ", ".join(f"{value} {name}" for name, value in numbers.items() if name != "error")
            error = f"; it gave no answer: {numbers['error']}" if "error" in numbers else ""
            text += f"\nnumbered lines in {backend}: {counts}{error}"
        problems = [problem for problem in (self.lines.error, self.error) if problem]
        return "\n".join([text, *problems]) + "\n"


def written(labels: dict[str, str]) -> str:
    """Labels as the text format has them."""
    quoted = {key: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for key, value in labels.items()}
    return ",".join(f'{key}="{value}"' for key, value in quoted.items())


def given(path: str) -> list[dict[str, Any]]:
    """The log back ends of a file, none without one; :raises ValueError: without a value of it, as it holds passwords."""
    if not path:
        return []
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise given_backends.unreadable(error) from None
    return given_backends.parse(text)


class Handler(web.Handler):
    """The five addresses."""

    findings: Findings
    server_version = "scheduled-verify"

    def do_GET(self) -> None:
        """Answer one of the pages."""
        path, _, query = self.path.partition("?")
        if path == "/metrics":
            self.answer(HTTPStatus.OK, self.findings.metrics())
        elif path == "/results.json":
            self.answer(HTTPStatus.OK, json.dumps(self.findings.found()), "application/json")
        elif path == "/":
            found, now = self.findings.found(), time.time()
            seconds = 0 if web.stays(query) else verification.refresh(found, now)
            self.answer(HTTPStatus.OK, verification.page(found, now, seconds), "text/html", seconds)
        elif path == "/table.txt":
            self.answer(HTTPStatus.OK, self.findings.table())
        elif path == "/healthz":
            self.answer(HTTPStatus.OK, "ok\n")
        else:
            self.answer(HTTPStatus.NOT_FOUND, "There is nothing here but /, /table.txt, /results.json, /metrics and /healthz.\n")


if __name__ == "__main__":
    target = Target(**json.loads(os.environ["VERIFY_TARGET"]))
    findings = Findings(target, float(os.environ["VERIFY_EVERY"]), os.environ.get("VERIFY_BACKENDS", ""))
    runs = threading.Thread(target=findings.repeat)
    listening = web.Server(("0.0.0.0", web.port()), type("BoundHandler", (Handler,), {"findings": findings}))
    runs.start()
    try:
        web.serve(listening)
    finally:
        # The run that is under way comes to its end: a thread that Python kills while it writes takes the process with it.
        findings.stop.set()
        runs.join()
