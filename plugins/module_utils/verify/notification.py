# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody would be notified of each alert: a judgement over what Prometheus and Alertmanager have loaded."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import promql, relabeling, routing
from .routing import Delivery, Labels

Json = dict[str, Any]

INBOX = "alert-inbox"
# Receivers that wake nobody, whatever they are made of; the dead man's switch is glad of whatever arrives.
NOBODY = {INBOX, "none", "null", "dead-mans-switch"}
# Seconds that the first notification of an alert may take by its route, and that of another one of its group.
SLOW: dict[str, tuple[float, float]] = {"critical": (3600, 86400), "": (86400, 86400)}
ALWAYS = "Watchdog"  # it fires by design as long as alerts are evaluated, so whoever gets it learns nothing


@dataclass
class Alert:
    """A loaded alert, with the labels that it will have; :param dropped: whether Prometheus sends it to no Alertmanager."""

    name: str
    severity: str
    labels: Labels
    dropped: bool = False


@dataclass
class Alertmanager:
    """What one has loaded, and what it knows now.

    :param config: its configuration.
    :param silences: as ``/api/v2/silences`` has them.
    :param firing: the labels of the alerts that fire.
    """

    config: Json
    silences: list[Json] = field(default_factory=list)
    firing: list[dict[str, str]] = field(default_factory=list)


def alert_of(rule: Json, tree: Json | None, config: Json) -> Alert:
    """A rule of ``/api/v1/rules`` as the alert that it makes.

    :param tree: its expression, as promql reads it; None where Prometheus does not tell, so that any label may be there.
    :param config: what Prometheus has loaded, by which it adds and changes labels.
    """
    external = {name: str(value) for name, value in ((config.get("global") or {}).get("external_labels") or {}).items()}
    found = promql.labels(tree) if tree else Labels(open=True)
    # A label that is a template has a value that nobody knows yet.
    own = {name: None if "{{" in value else value for name, value in (rule.get("labels") or {}).items()}
    named: dict[str, str | None] = {**external, **found.known, **own, "alertname": rule["name"]}
    arriving = relabeling.relabeled(Labels(named, found.open), relabeling.rules_of(config))
    return Alert(rule["name"], str(named.get("severity") or ""), arriving or Labels(named, found.open), arriving is None)


def bare(receiver: str) -> str:
    """A receiver as its owner named it: the operator puts namespace and name of its object before it."""
    return receiver.rsplit("/", 1)[-1]


class Judge:
    """Looks at each alert once; `problems` and `notes` are what there is to say."""

    def __init__(self, server: Alertmanager, loaded: list[Alert], now: datetime.datetime) -> None:
        self.server, self.loaded, self.now = server, loaded, now
        self.kinds = routing.integrations(server.config)
        self.intervals = routing.intervals(server.config)
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.reached: dict[str, int] = {}

    def _tells(self, way: Delivery) -> bool:
        return bare(way.receiver) not in NOBODY and bool(self.kinds.get(way.receiver))

    def _possible(self, alert: Alert) -> list[list[Delivery]]:
        return routing.outcomes(self.server.config.get("route") or {}, alert.labels)

    def reaches(self, alert: Alert) -> bool:
        """Whether somebody is notified, in one at least of the possibilities that unknown labels leave, within a week."""
        ways = [way for ways in self._possible(alert) for way in ways]
        return any(self._tells(way) and routing.opens(way, self.intervals, self.now) is not None for way in ways)

    def judge(self, alerts: list[Alert]) -> None:
        """Judge the alerts that somebody must be notified of."""
        if lost := [alert for alert in alerts if alert.dropped]:
            self.problems.append(f"a relabeling of Prometheus (alert_relabel_configs) drops {listed(lost)} before Alertmanager")
        alerts = [alert for alert in alerts if not alert.dropped]
        self._routes(alerts)
        self._inhibitions([alert for alert in alerts if not self._silenced(alert)])
        self._silences(alerts)

    def _routes(self, alerts: list[Alert]) -> None:
        astray: dict[str, list[Alert]] = {}
        shut: dict[str, list[Alert]] = {}
        late: list[Alert] = []
        for alert in alerts:
            possible = self._possible(alert)
            telling = [way for ways in possible for way in ways if self._tells(way)]
            opening = [routing.opens(way, self.intervals, self.now) for way in telling]
            if not telling:
                ends = sorted({bare(way.receiver) or "no receiver" for ways in possible for way in ways})
                astray.setdefault(" and ".join(ends), []).append(alert)
            elif all(found is None for found in opening):
                named = sorted({name for way in telling for name in (*way.muted, *way.active)})
                shut.setdefault(" and ".join(named), []).append(alert)
            else:
                soonest = min(found for found in opening if found is not None)
                if soonest:
                    self.notes.append(f"{alert.name} is muted for {soonest // 60} h {soonest % 60} min by a time interval")
                first, next_one = SLOW.get(alert.severity, SLOW[""])
                if all(way.wait > first or way.interval > next_one for way in telling):
                    late.append(alert)
                for name in {bare(way.receiver) for way in telling}:
                    self.reached[name] = self.reached.get(name, 0) + 1
        for where, which in astray.items():
            self.problems.append(f"{listed(which)} {'end' if len(which) > 1 else 'ends'} at {where}, which notifies nobody")
        if late:
            self.problems.append(
                f"{listed(late)} would be notified of late: the route has a group_wait or group_interval of hours or days"
            )
        for names, which in shut.items():
            verb = "are" if len(which) > 1 else "is"
            self.problems.append(f"{listed(which)} {verb} held back for the next seven days by the time interval {names}")

    def _inhibitions(self, alerts: list[Alert]) -> None:
        fires = [
            Alert(given.get("alertname", "?"), given.get("severity", ""), Labels(dict(given))) for given in self.server.firing
        ]
        # An alert that is silenced holds others back all the same.
        unheard = [each for each in fires if self._silenced(each)]
        unheard += [
            each for each in (*self.loaded, *fires) if not each.dropped and (each.name == ALWAYS or not self.reaches(each))
        ]
        held: dict[str, list[Alert]] = {}
        for alert in alerts:
            for rule in routing.inhibitions(self.server.config, alert.labels):
                for source in unheard:
                    if routing.inhibits(rule, source.labels, alert.labels) is True:
                        held.setdefault(source.name, []).append(alert)
        for name, which in held.items():
            distinct = list({alert.name: alert for alert in which}.values())
            why = f"{name} always fires" if name == ALWAYS else f"nobody is notified of {name} itself"
            self.problems.append(f"{name} holds {listed(distinct)} back by an inhibition, and {why}")

    def _active(self) -> list[Json]:
        return [each for each in self.server.silences if each.get("status", {}).get("state") == "active"]

    def _silenced(self, alert: Alert) -> bool:
        return any(routing.silenced(silence, alert.labels) is True for silence in self._active())

    def _silences(self, alerts: list[Alert]) -> None:
        for silence in self._active():
            under = [alert for alert in alerts if routing.silenced(silence, alert.labels) is True]
            if not under:
                continue
            text = f"a silence holds {listed(under)} back until {silence['endsAt'][:16].replace('T', ' ')}"
            text += f" (by {silence['createdBy']}: {silence['comment']})" if silence.get("createdBy") else ""
            critical = any(alert.severity == "critical" for alert in under)
            (self.problems if critical else self.notes).append(text)


def listed(alerts: list[Alert]) -> str:
    """Alerts in a few words, with their severities; the critical ones first."""
    ordered = sorted(alerts, key=lambda alert: alert.severity != "critical")
    names = [f"{alert.name} ({alert.severity})" if alert.severity else alert.name for alert in ordered]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def wanted(alerts: list[Alert], severities: list[str]) -> list[Alert]:
    """The alerts of these severities."""
    return [alert for alert in alerts if alert.severity in severities]


def read(rules: list[Json], parse: Callable[[str], Json | None], config: Json) -> list[Alert]:
    """The alerts among loaded rules.

    :param parse: gives the tree of an expression, or None. :param config: what Prometheus has loaded.
    """
    return [alert_of(rule, parse(rule["query"]), config) for rule in rules if rule.get("type") == "alerting"]
