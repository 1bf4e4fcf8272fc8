# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A test alert fires in Prometheus, arrives at the receiver, and is resolved there."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable
from urllib.parse import urlencode

from ...kube.transport import read_object
from ...monitoring.names import NOTIFY, TEST_SERVICE
from ...monitoring.paths import service_path
from .. import queries
from ..notification import INBOX, NOBODY, bare
from ..result import FAILED, Result, failed, ok, skipped
from ..run import Run
from ..stack import KUBE_STATE_METRICS, Stack, rules_of
from . import exporters, rules

NAME = "VerifyTestAlert"
PAUSE = 0.5  # seconds between two looks; none of the three programs can be watched
LEFT_BEHIND = 600.0  # seconds after which a test alert's mark belongs to a verification that was killed


class Journey:
    """A test alert: a Service without pods that kube-state-metrics counts, and on which a rule fires."""

    def __init__(self, stack: Stack, alertmanager: str, inbox: str) -> None:
        self.stack, self.alertmanager, self.inbox = stack, alertmanager, inbox
        self.get, self.deadline, self.cluster = stack.run.get, stack.run.deadline, stack.cluster
        target = stack.app
        self.services = f"/api/v1/namespaces/{target.namespace}/services"
        self.notify = target.notify
        self.name = TEST_SERVICE + (NOTIFY if target.notify else "") + uuid.uuid4().hex[:12]
        self.times: dict[str, float] = {}
        self.receivers: list[str] = []
        self.held: list[str] = []  # what holds it back in Alertmanager
        self.began = 0.0
        self.firing = queries.filled("test_alert", alert=NAME, service=self.name)

    def _fires(self) -> bool:
        return bool(self.stack.query(self.firing))

    def _in_alertmanager(self) -> bool:
        query = urlencode([("filter", f"alertname={NAME}"), ("filter", f"service={self.name}")])
        found = [a for a in self.get(f"{self.alertmanager}/api/v2/alerts?{query}") if a["status"]["state"] != "unprocessed"]
        for alert in found:
            status = alert["status"]
            self.held = [*(status.get("silencedBy") or []), *(status.get("inhibitedBy") or [])]
            self.receivers = sorted(bare(r["name"]) for r in alert.get("receivers") or [])
        return bool(found)

    def _in_inbox(self, status: str) -> bool:
        got = self.get(f"{self.inbox}/alerts.json")["alerts"]
        return any(a["status"] == status and a["labels"].get("service") == self.name for a in got)

    def _failed(self, cause: str, command: str) -> Result:
        done = ", ".join(f"{key} after {value:.1f} s" for key, value in self.times.items()) or "the rule never fired"
        return failed("alert path", done, cause, self.query(), command)

    def query(self) -> str:
        """What was done and asked."""
        steps = f"POST {self.services} ({self.name}); PromQL {self.firing}; GET {self.alertmanager}/api/v2/alerts"
        return f"{steps}; GET {self.inbox}/alerts.json" if self.inbox else steps

    def _wait(self, what: str, there: Callable[[], bool]) -> bool:
        """Whether a station was reached before the verification's end; its time is kept."""
        while not there():
            if time.monotonic() > self.deadline:
                return False
            time.sleep(PAUSE)
        self.times[what] = time.monotonic() - self.began
        return True

    def _sweep(self) -> None:
        """Remove the marks of verifications that were killed."""
        selector = urlencode({"labelSelector": "app.kubernetes.io/managed-by=flaskops-verify"})
        now = datetime.datetime.now(datetime.UTC)
        for item in self.get(f"{self.services}?{selector}").get("items", []):
            made = datetime.datetime.fromisoformat(item["metadata"]["creationTimestamp"])
            if (now - made).total_seconds() > LEFT_BEHIND:
                self.cluster.send("DELETE", f"{self.services}/{item['metadata']['name']}")

    def send(self) -> Result:
        """Let it fire, follow it to the receiver, end it, and see its end arrive."""
        self._sweep()
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "labels": {"app.kubernetes.io/managed-by": "flaskops-verify"}},
            "spec": {"type": "ExternalName", "externalName": "verify.invalid"},
        }
        self.began = time.monotonic()
        read_object(*self.cluster.send("POST", self.services, service))
        try:
            broken = self._arrive()
        finally:
            self.cluster.send("DELETE", f"{self.services}/{self.name}")
        if broken:
            return broken
        if not self._wait(
            "resolved", (lambda: self._in_inbox("resolved")) if self.inbox else lambda: not self._in_alertmanager()
        ):
            return self._failed("it was never resolved", self._log())
        times = ", ".join(f"{key} after {value:.1f} s" for key, value in self.times.items())
        return ok("alert path", f"{NAME} {times}; receivers: {', '.join(self.receivers) or 'none'}", self.query())

    def _log(self) -> str:
        return self.stack.command("logs", f"deployment/{INBOX}", "--tail=20")

    def _arrive(self) -> Result | None:
        if not self._wait("fired", self._fires):
            expr = queries.filled("test_service", service=self.name)
            seen = self.stack.query(expr)
            cause = "the rule is not evaluated" if seen else "kube-state-metrics is not scraped, or the rule is not evaluated"
            return self._failed(cause, self.stack.port_forward("prometheus-operated", 9090))
        if not self._wait("at Alertmanager", self._in_alertmanager):
            return self._failed("Prometheus does not reach Alertmanager", self.stack.alertmanager_forward())
        if self.held:
            why = f"a silence or another alert holds it back in Alertmanager ({', '.join(self.held)}), and the app's alerts too"
            return skipped("alert path", why)
        strangers = sorted(set(self.receivers) - NOBODY)
        if strangers and not self.notify:
            cause = f"an earlier route sends it to {', '.join(strangers)}, so somebody may have been notified"
            return self._failed(cause, self.stack.alertmanager_forward())
        if self.inbox and self.receivers and INBOX not in self.receivers:
            cause = f"Alertmanager sends it to {', '.join(self.receivers)} and not to {INBOX}"
            return self._failed(cause, self.stack.alertmanager_forward())
        if self.inbox and not self._wait("received", lambda: self._in_inbox("firing")):
            return self._failed(f"Alertmanager does not reach the receiver {INBOX}", self._log())
        return None


def look(run: Run) -> list[Result]:
    link, stack, namespace = "alert path", run.stack, run.target.namespace
    if not run.target.alert_check:
        return [skipped(link, "switched off by verify_alert_check")]
    if KUBE_STATE_METRICS in stack.skipped:
        return [skipped(link, "kube-state-metrics, which the test alert needs, is skipped")]
    installed = [rule for item in stack.objects["prometheusrules"] for rule in rules_of(item)]
    if all(rule.get("alert") != NAME for rule in installed):
        return [skipped(link, f"no rule {NAME} for namespace {namespace}; the role app_monitoring installs it")]
    alertmanagers = stack.alertmanagers()
    if not alertmanagers:
        return [skipped(link, f"namespace {stack.alerting} has no Alertmanager that could be asked")]
    alertmanager = stack.alertmanager(alertmanagers)
    inbox = service_path(stack.namespace, INBOX, 80)
    config = stack.ask(f"{alertmanager}/api/v2/status")["config"]["original"]
    has_inbox = any(item["metadata"]["name"] == INBOX for item in stack.deployments())
    if NAME not in config:
        # Without a route of its own it would reach whoever is on duty.
        why = f"Alertmanager has no route for {NAME}, so it would go to the default receiver"
        if has_inbox:
            query = f"GET {alertmanager}/api/v2/status"
            return [
                failed(
                    link,
                    "not sent",
                    why,
                    query,
                    stack.command("get", "secrets", "-l", "app.kubernetes.io/managed-by=flaskops"),
                )
            ]
        return [skipped(link, why)]
    # What other links wait for must be there first.
    for name, find in (("the rules are not loaded", rules.look), ("kube-state-metrics is not read", exporters.read)):
        if any(result.status == FAILED for result in find(run)):
            return [skipped(link, f"not tried, because {name}")]
    return [Journey(run.stack, alertmanager, inbox if has_inbox else "").send()]
