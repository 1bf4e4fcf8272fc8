# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon and how late each observer must notice, by the configuration that is live, and what a measured time means.

A time is the sum of stages: how long until the fault shows, the next scrape, a window that fills, the next evaluation, the
rule's `for`, Alertmanager's group wait. Each has a shortest and a longest, in seconds.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from ..kube.transport import REQUEST_SECONDS, ApiError
from ..monitoring.durations import DURATION, seconds
from ..monitoring.names import APPLICATION, THRESHOLD, WINDOW, job_of_probe
from ..verify import numbered_lines, queries, routing
from ..verify.notification import INBOX, bare

Stage = tuple[str, float, float]

READINESS = "readiness probe"
LATE, MISSING = "late numbered lines", "missing numbered lines"
# Nothing is sent to a dead man's switch any more: because Alertmanager is gone, or because it has forgotten Watchdog.
SILENT, FORGOTTEN = "end of Alertmanager's signs", "end of Prometheus' signs"
WATCHDOG = {"alertname": "Watchdog", "severity": "none"}
RESEND = 60.0  # seconds after which Prometheus sends an alert again, which Alertmanager forgets after four times that
TELLS = 75.0  # seconds until an outside service has seen that a sign is missing, and we have seen that it has
MEASURED = " (measured)"  # ends the name of a stage whose time is not computed but was seen
TOLERANCE = 2.0  # seconds that a measured time may be over the longest
EARLY = 0.2  # and below the shortest: as exact as an observer looks
# Alerts on the share of requests that are bad; the second number is what the share is compared with, 0 for the rule's own.
SHARES = {"HighErrorRate": 0.0, "FlaskHighLatencyP95": 0.05}
# Others on how much a counter rises.
COUNTED = ("FlaskUncaughtExceptions", "LogErrorLines", "LogTraceback", "LogLinesLate", "LogLinesMissing")
# Alerts that need a whole window without something.
WHOLE = ("LogSilence",)
# Alerts on a series that is absent: when a target goes, Prometheus ends its series two scrapes and a tenth of one later.
ABSENT = ("LokiDown", "VictoriaLogsDown", "FlaskMetricsAbsent")
ARRIVES = 5.0  # seconds that a line may be on its way, so that a fault may hit one that was written before it
ENDS = 40.0  # seconds that the pods of a workload may need to end
STARTS = 30.0  # seconds in which a pod is scheduled and its application has begun to serve, where its node has the image
DISCOVERY = 5.0  # seconds after which Prometheus takes a changed list of targets


@dataclass
class Rule:
    """An alert's rule as Prometheus has it loaded."""

    name: str
    wait: float  # its `for`
    interval: float
    labels: dict[str, str]
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def window(self) -> float | None:
        """Seconds that it looks back; None where its annotations do not say so."""
        text = self.annotations.get(WINDOW, "")
        return seconds(text) if DURATION.fullmatch(text) else None

    @property
    def threshold(self) -> float | None:
        """What it compares with; None where its annotations do not say so."""
        with suppress(KeyError, ValueError):
            return float(self.annotations[THRESHOLD])
        return None


@dataclass
class Grouping:
    """How Alertmanager puts an alert together with others, and how long it waits for them."""

    by: list[str] = field(default_factory=list)
    wait: float = 30.0
    interval: float = 300.0
    repeat: float = 4 * 3600.0

    def key(self, labels: dict[str, str]) -> tuple[str, ...]:
        if "..." in self.by:
            return tuple(f"{key}={labels[key]}" for key in sorted(labels))
        return tuple(f"{key}={labels.get(key, '')}" for key in self.by)


@dataclass
class Settings:
    """The numbers of the live configuration from which times are computed, in seconds."""

    probe_delay: float = 0.0
    probe_period: float = 10.0
    probe_timeout: float = 1.0
    probe_threshold: int = 3
    scrape: dict[str, float] = field(default_factory=dict)  # by source
    scrape_timeout: dict[str, float] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    routing: dict[str, Any] = field(default_factory=dict)
    verified: float = 0.0  # seconds from one scheduled verification to the next; 0 for none

    def numbered_lines(self, missing: bool) -> list[Stage]:
        """No numbered line arrives any more: the next ones are late, and missing when a later run asks for them again."""
        bound, every = min(numbered_lines.BOUND, self.verified), self.verified
        found = [("end of the pods", 0.0, ENDS), ("next numbered lines", 0.0, every)]
        if missing:
            return [*found, (MISSING, numbered_lines.MISSING - ARRIVES, numbered_lines.MISSING + every + bound + REQUEST_SECONDS)]
        return [*found, (LATE, bound - ARRIVES, bound + REQUEST_SECONDS)]

    def readiness(self) -> list[Stage]:
        """The kubelet asks every period, and so many failures in a row make a pod not ready."""
        soonest = (self.probe_threshold - 1) * self.probe_period
        return [(READINESS, soonest, soonest + self.probe_period + self.probe_timeout)]

    def starting(self, pods: int) -> list[Stage]:
        """So many pods are replaced, all at once or one after the other, and serve as soon as their probe says so."""
        longest = self.probe_delay + self.probe_period + self.probe_timeout
        return [
            ("scheduler, kubelet and the start of the application", 0.0, pods * STARTS),
            ("first readiness probe", self.probe_delay, pods * longest),
        ]

    def signs(self, waits: float, forgotten: bool) -> list[Stage]:
        """A dead man's switch that waits for so long gets no sign any more."""
        route, rule = self.grouping(WATCHDOG), self.rules.get("Watchdog")
        every = rule.interval if rule else 0.0
        found = [("end of the pods", 0.0, ENDS)]
        if forgotten:
            resend = max(RESEND, every)
            # The last one may be that the alert has ended.
            found.append(("Alertmanager forgets Watchdog", 3 * resend - every, 4 * resend + route.interval))
        # A sign that is due just when its group is looked at waits for the next look.
        last = route.repeat + route.interval
        return [*found, ("patience of the dead man's switch", max(0.0, waits - last), waits), ("outside service", 0.0, TELLS)]

    def grouping(self, labels: dict[str, str]) -> Grouping:
        return grouping(self.routing, labels)

    def numbers(self, alerts: set[str]) -> dict[str, float]:
        """What the report shows, with the rules of these alerts."""
        found: dict[str, float] = {
            "readiness_initial_delay": self.probe_delay,
            "readiness_period": self.probe_period,
            "readiness_timeout": self.probe_timeout,
            "readiness_failure_threshold": self.probe_threshold,
        }
        found |= {f"scrape_interval_{source.replace('-', '_')}": value for source, value in sorted(self.scrape.items())}
        for name, rule in sorted((name, rule) for name, rule in self.rules.items() if name in alerts):
            found |= {f"{name}_evaluation_interval": rule.interval, f"{name}_for": rule.wait}
            if rule.window:
                found[f"{name}_window"] = rule.window
        top = grouping(self.routing, {})
        return found | ({"group_wait": top.wait, "group_interval": top.interval} if self.routing else {})


def duration(text: Any, default: float) -> float:
    """Seconds of what a configuration file has, or the default where it has nothing."""
    return seconds(str(text)) if text not in (None, "") and DURATION.fullmatch(str(text)) else default


def branches(route: dict[str, Any], labels: dict[str, str]) -> list[list[dict[str, Any]]]:
    """The ways of an alert with these labels through a tree of routes: one, and one more for each that says ``continue``."""
    found: list[list[dict[str, Any]]] = []
    for child in route.get("routes") or []:
        if routing.holds(child, routing.Labels(dict(labels))):
            found += branches(child, labels)
            if not child.get("continue"):
                break
    return [[route, *way] for way in found] or [[route]]


def grouping(route: dict[str, Any], labels: dict[str, str]) -> Grouping:
    """The grouping of an alert with these labels on its way to the alert inbox, else to the first receiver.

    A route has what its parents have where it says nothing.
    """
    ways = branches(route, labels)

    def receiver(way: list[dict[str, Any]]) -> str:
        return next((str(here["receiver"]) for here in reversed(way) if here.get("receiver")), "")

    found = Grouping()
    for here in next((way for way in ways if bare(receiver(way)) == INBOX), ways[0]):
        if here.get("group_by") is not None:
            found.by = list(here["group_by"])
        found.wait = duration(here.get("group_wait"), found.wait)
        found.interval = duration(here.get("group_interval"), found.interval)
        found.repeat = duration(here.get("repeat_interval"), found.repeat)
    return found


def probe_of(container: dict[str, Any]) -> Settings:
    """The settings of a container's readiness probe alone."""
    probe = container.get("readinessProbe") or {}
    return Settings(
        probe_delay=float(probe.get("initialDelaySeconds", 0)),
        probe_period=float(probe.get("periodSeconds", 10)),
        probe_timeout=float(probe.get("timeoutSeconds", 1)),
        probe_threshold=int(probe.get("failureThreshold", 3)),
    )


def read_settings(app: Any) -> Settings:
    """What is live: the Deployment's probe, Prometheus' targets and rules, Alertmanager's routes.

    :param app: the application (app.App). What can't be read is skipped, and times that need it are unbounded.
    """
    found = probe_of(app.container)
    if app.prometheus:
        _read_prometheus(app, found)
    if app.alertmanager:
        with suppress(ApiError, ValueError):
            found.routing = read_routing(app)
    return found


def read_routing(app: Any) -> dict[str, Any]:
    """Alertmanager's tree of routes, as it is loaded.

    :raises ApiError: where it does not answer. :raises ValueError: for something else than a configuration.
    """
    import yaml

    try:
        return dict(yaml.safe_load(app.get(f"{app.alertmanager}/api/v2/status")["config"]["original"])["route"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError("Alertmanager answers something else than its configuration") from error


def source_of(labels: dict[str, str], app: Any) -> str:
    """Which of the sources a target of Prometheus is; empty for none of them."""
    job = labels.get("job", "")
    if labels.get("namespace") == app.namespace and job == app.name:
        return "app"
    if job == job_of_probe(app.name):
        return "probe"
    if labels.get("namespace") == app.namespace and job == f"{app.name}-verify":
        return "scheduled verification"
    if "kube-state-metrics" in job:
        return "kube-state-metrics"
    if job.endswith("collector") or labels.get("app") == "fluent-bit" or job == "fluent-bit":
        return "log agent"
    return "log back end" if job.startswith(("loki", "victoria-logs")) else ""


def _read_prometheus(app: Any, found: Settings) -> None:
    try:
        targets = app.get(f"{app.prometheus}/api/v1/targets?state=active")["data"]["activeTargets"]
        groups = app.get(f"{app.prometheus}/api/v1/rules")["data"]["groups"]
    except (ApiError, KeyError):
        return
    for target in targets:
        source = source_of(target["labels"], app)
        if source:
            interval = duration(target.get("scrapeInterval"), 0.0)
            found.scrape[source] = max(interval, found.scrape.get(source, 0.0))
            found.scrape_timeout[source] = duration(target.get("scrapeTimeout"), interval)
    _add_rules(found, groups, app)
    query = queries.filled("schedule", namespace=app.namespace, name=app.name)
    with suppress(ApiError, KeyError, IndexError):
        answer = app.get(f"{app.prometheus}/api/v1/query?{urlencode({'query': query})}")["data"]["result"]
        found.verified = float(answer[0]["value"][1])


def _add_rules(found: Settings, groups: list[dict[str, Any]], app: Any) -> None:
    for group in groups:
        for rule in group["rules"]:
            if rule.get("type") != "alerting":
                continue
            labels, annotations = rule.get("labels") or {}, rule.get("annotations") or {}
            ours = annotations.get(APPLICATION) == f"{app.namespace}/{app.name}"
            # Another application's, or that of one with the same name in another namespace. A rule of the user's has labels only.
            strange = APPLICATION in annotations or labels.get("app", app.name) != app.name
            if not ours and (strange or labels.get("namespace", app.namespace) != app.namespace):
                continue
            # An alert of the application's own rules goes before one of the same name for the whole cluster.
            if ours or rule["name"] not in found.rules:
                wait, interval = float(rule.get("duration") or 0), float(group.get("interval") or 0)
                found.rules[rule["name"]] = Rule(rule["name"], wait, interval, labels, annotations)


def stages_of_alert(
    settings: Settings, rule: Rule, symptom: list[Stage], source: str, share: float, rate: float
) -> list[Stage] | None:
    """The stages up to `pending`; None where a number is missing, so that the time has no bounds."""
    found = list(symptom)
    if source:
        if source not in settings.scrape:
            return None
        # A rate needs two samples, of which the second may be the first that shows anything.
        scrapes = 2 if rule.name in (*SHARES, *COUNTED) else 1
        late = settings.scrape_timeout.get(source, 0.0) if source == "probe" else 0.0
        name = "scrape" if scrapes == 1 else f"{scrapes} scrapes"
        if rule.name in ABSENT:
            found.append(("end of the series", 0.0, DISCOVERY + 2.1 * settings.scrape[source]))
        else:
            found.append((name, 0.0, scrapes * settings.scrape[source] + late))
    if rule.name in (*SHARES, *WHOLE) or rate:
        window, threshold = rule.window, SHARES.get(rule.name) or rule.threshold
        if window is None or (threshold is None and rule.name not in WHOLE):
            return None
        if rule.name in WHOLE:
            found.append(("window without lines", window - rule.interval, window))
        else:
            found.append(("window fills", 0.0, (threshold or 0.0) * window / (share if rule.name in SHARES else rate)))
    found.append(("evaluation", 0.0, rule.interval))
    return found


def for_stage(rule: Rule) -> Stage:
    """A rule's `for` ends with an evaluation."""
    wait = math.ceil(rule.wait / rule.interval) * rule.interval if rule.interval else rule.wait
    return ("for", wait, wait)


def group_stage(found: Grouping, waiting: bool) -> Stage:
    """Alertmanager waits for others of a new group; a group that was told already is looked at each interval."""
    return ("group interval", 0.0, found.interval) if waiting else ("group wait", found.wait, found.wait)


def total(stages: list[Stage]) -> tuple[float, float]:
    return sum(stage[1] for stage in stages), sum(stage[2] for stage in stages)


def verdict(at: float | None, shortest: float | None, longest: float | None) -> str:
    """What a measured time means: within, early, late, missed, or unbounded where nothing says when it had to be."""
    if at is None:
        return "missed"
    if shortest is None or longest is None:
        return "unbounded"
    if at < shortest - EARLY:
        return "early"
    return "late" if at > longest + TOLERANCE else "within"


def note(parts: list[tuple[str, float | None, list[Stage]]]) -> str:
    """Which stage added time to the last of some events that follow each other.

    :param parts: for each event its name, its time and the stages between it and the one before.
    """
    before = 0.0
    found = []
    for name, at, stages in parts:
        if at is None:
            continue
        if stages and stages[0][0].endswith(MEASURED):
            before, stages = stages[0][2], stages[1:]  # what was measured took what it took
        took, (_shortest, longest) = at - before, total(stages)
        if took > longest + EARLY:
            words = ", ".join(stage[0] for stage in stages)
            found.append(f"{words} took {took:.1f} s before {name}, {took - longest:.1f} s more than configured")
        before = at
    return "; ".join(found)
