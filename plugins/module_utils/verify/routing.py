# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Alertmanager sends an alert, by its loaded configuration: routes, time intervals, inhibitions and silences.

Not every label of an alert is known before it fires. So a matcher is true, false or unknown, and a way that depends on an unknown
label is followed both ways. Source: Alertmanager's dispatch, inhibit and timeinterval packages, and its `configuration` page.
"""

from __future__ import annotations

import calendar
import contextlib
import datetime
import re
import zoneinfo
from dataclasses import dataclass, field
from typing import Any

from ..monitoring.durations import seconds

Json = dict[str, Any]

MATCHER = re.compile(
    r"""\s*(?:"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<name>[^\s=!~"]+))\s*(?P<op>=~|!~|!=|=)\s*(?P<value>.*?)\s*""", re.DOTALL
)
DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = tuple(name.lower() for name in calendar.month_name)  # the first is empty, so that january is 1
AHEAD, STEP = 7 * 24 * 60, 15  # minutes of time intervals that are looked at, and from one look to the next
MANY = 64  # alternatives that are followed at most
INHERITED = ("receiver", "group_wait", "group_interval")
EVERY = (".*", "(.*)", "^.*$")  # expressions that take whatever a label says, and that it is not there


@dataclass
class Labels:
    """The labels of an alert that has not fired yet.

    :param known: the values; None for a label that is there with a value that nobody knows.
    :param open: whether it may have further labels.
    """

    known: dict[str, str | None] = field(default_factory=dict)
    open: bool = False

    def holds(self, name: str, op: str, value: str) -> bool | None:
        """Whether a matcher holds; None where that is not known."""
        have = self.value(name)
        if "~" in op and value in EVERY:
            return op == "=~"
        if have is None or ("~" in op and "[[:" in value):  # a class of POSIX, which Python reads otherwise
            return None
        try:
            equal = have == value if op in ("=", "!=") else re.fullmatch(value, have, re.DOTALL) is not None
        except re.error:  # Go's expressions are nearly Python's
            return None
        return equal == (op in ("=", "=~"))

    def value(self, name: str) -> str | None:
        """The value of a label, empty for one that is not there; None where it is not known."""
        return self.known.get(name, None if self.open else "")


@dataclass(frozen=True)
class Delivery:
    """The end of a route: the receiver, when it is told nothing, and the seconds that a new group waits, or one that is there."""

    receiver: str
    muted: tuple[str, ...] = ()  # names of time intervals in which nothing is sent
    active: tuple[str, ...] = ()  # and of those outside of which nothing is
    wait: float = 0.0
    interval: float = 0.0


def both(*found: bool | None) -> bool | None:
    """Whether all hold."""
    return False if False in found else None if None in found else True


def parsed(matcher: str) -> tuple[str, str, str]:
    """A matcher as name, operator and value.

    :raises ValueError: where it is none.
    """
    found = MATCHER.fullmatch(matcher)
    if not found:
        raise ValueError(f"{matcher!r} is no matcher of Alertmanager")
    value = found["value"]
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value[1:-1])
    return found["quoted"] or found["name"], found["op"], value


def matchers(item: Json, prefix: str = "") -> list[tuple[str, str, str]]:
    """The matchers of a route, or those of an inhibition with the prefix ``source_`` or ``target_``."""
    found = [(name, "=", str(value)) for name, value in (item.get(f"{prefix}match") or {}).items()]
    found += [(name, "=~", str(value)) for name, value in (item.get(f"{prefix}match_re") or {}).items()]
    texts = item.get(f"{prefix}matchers") or []
    return found + [parsed(text) for text in ([texts] if isinstance(texts, str) else texts)]


def holds(item: Json, labels: Labels, prefix: str = "") -> bool | None:
    """Whether all of these matchers hold."""
    return both(*(labels.holds(*matcher) for matcher in matchers(item, prefix)))


def outcomes(route: Json, labels: Labels, above: Json | None = None) -> list[list[Delivery]]:
    """The ways of an alert through a tree of routes, for each possibility that unknown labels leave.

    :param above: what a route has of the one above it.
    """
    own = {**(above or {}), **{key: route[key] for key in INHERITED if route.get(key)}}
    states: list[tuple[tuple[Delivery, ...], bool]] = [((), False)]
    for child in route.get("routes") or []:
        fits = holds(child, labels)
        if fits is False:
            continue
        found: dict[tuple[tuple[Delivery, ...], bool], None] = {}
        for ways, ended in states:
            if ended or fits is None:
                found[ways, ended] = None
            if not ended:
                for more in outcomes(child, labels, own):
                    found[(*ways, *more), not child.get("continue")] = None
        states = list(found)[:MANY]
    muted, active = (tuple(route.get(f"{kind}_time_intervals") or ()) for kind in ("mute", "active"))
    wait, interval = (seconds(str(own.get(key) or "0s")) for key in INHERITED[1:])
    last = Delivery(own.get("receiver", ""), muted, active, wait, interval)
    return [list(ways) or [last] for ways in dict.fromkeys(ways for ways, _ended in states)]


def integrations(config: Json) -> dict[str, list[str]]:
    """The kinds of integrations of each receiver, such as ``slack``."""
    return {
        item["name"]: [
            key.removesuffix("_configs") for key, given in item.items() if key.endswith("_configs") for _each in given or []
        ]
        for item in config.get("receivers") or []
    }


def intervals(config: Json) -> dict[str, list[Json]]:
    """The time intervals by their names."""
    listed = [*(config.get("time_intervals") or []), *(config.get("mute_time_intervals") or [])]
    return {item["name"]: item.get("time_intervals") or [] for item in listed}


def _number(text: str, names: tuple[str, ...], first: int = 0) -> int:
    return names.index(text.lower()) + first if text.lower() in names else int(text)


def _within(ranges: list[Any], value: int, names: tuple[str, ...] = ()) -> bool:
    """Whether a value is in one of several ranges such as ``monday:friday``; where there is none, it is."""
    for text in ranges:
        low, _, high = str(text).partition(":")
        if _number(low, names) <= value <= _number(high or low, names):
            return True
    return not ranges


def _in_month(ranges: list[Any], now: datetime.datetime) -> bool:
    """Whether a day is in one of several ranges, which count from the month's end where they are negative."""
    last = calendar.monthrange(now.year, now.month)[1]
    for text in ranges:
        low, _, high = str(text).partition(":")
        first, end = (number if number > 0 else last + 1 + number for number in (int(low), int(high or low)))
        if first <= now.day <= end:
            return True
    return not ranges


def _minutes(text: Any) -> int:
    hours, _, minutes = str(text).partition(":")
    return int(hours) * 60 + int(minutes)


def covers(interval: Json, now: datetime.datetime) -> bool:
    """Whether one time interval covers a moment, which has a time zone."""
    zone = interval.get("location")
    if zone:
        # An image without the zones is hours off, which a week's look does not mind.
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError, ValueError):
            now = now.astimezone(zoneinfo.ZoneInfo(zone))
    minute = now.hour * 60 + now.minute
    times = interval.get("times") or []
    return (
        (not times or any(_minutes(each["start_time"]) <= minute < _minutes(each["end_time"]) for each in times))
        and _within(interval.get("weekdays") or [], now.isoweekday() % 7, DAYS)
        and _in_month(interval.get("days_of_month") or [], now)
        and _within(interval.get("months") or [], now.month, MONTHS)
        and _within(interval.get("years") or [], now.year)
    )


def opens(way: Delivery, named: dict[str, list[Json]], now: datetime.datetime) -> int | None:
    """In how many minutes a way passes notifications on, 0 for now; None where it does not within a week."""
    for ahead in range(0, AHEAD, STEP):
        then = now + datetime.timedelta(minutes=ahead)

        def covered(names: tuple[str, ...], at: datetime.datetime = then) -> bool:
            return any(covers(each, at) for name in names for each in named.get(name, []))

        if not covered(way.muted) and (not way.active or covered(way.active)):
            return ahead
    return None


def inhibitions(config: Json, labels: Labels) -> list[Json]:
    """The inhibitions that may hold an alert back."""
    return [rule for rule in config.get("inhibit_rules") or [] if holds(rule, labels, "target_") is not False]


def inhibits(rule: Json, source: Labels, target: Labels) -> bool | None:
    """Whether an alert holds another one back by a rule; one that both sides of the rule take never holds itself back."""
    same = both(*(_equal(name, source, target) for name in rule.get("equal") or []))
    itself = both(holds(rule, target, "source_"), holds(rule, source, "target_"))
    return both(holds(rule, source, "source_"), holds(rule, target, "target_"), same, None if itself is None else not itself)


def _equal(name: str, one: Labels, other: Labels) -> bool | None:
    values = [found.value(name) for found in (one, other)]
    return None if None in values else values[0] == values[1]


def silenced(silence: Json, labels: Labels) -> bool | None:
    """Whether a silence, as Alertmanager's API has it, holds an alert back."""
    found = []
    for item in silence["matchers"]:
        sign = "=" if item.get("isEqual", True) else "!"
        op = sign + "~" if item.get("isRegex") else {"=": "=", "!": "!="}[sign]
        found.append(labels.holds(item["name"], op, item["value"]))
    return both(*found)
