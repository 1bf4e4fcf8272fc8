# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an expression can ever give a series: it has all that it needs, misses something for a known reason, or is dead.

Only what must be there counts: an alternative (``or``) needs one of its sides, ``unless`` its left one, ``absent`` nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import partial
from typing import Any

from ..monitoring.names import TEST_SERVICE
from . import promql, quiet
from .measures import Measures
from .nearest import TYPO, holds, meant, near, nearest
from .routing import Labels
from .series import SOME, Series, Unasked

Json = dict[str, Any]

ALERTS = ("ALERTS", "ALERTS_FOR_STATE")  # what Prometheus records of the alerts that fire


class Standing(IntEnum):
    """From the worst to the best."""

    DEAD, UNKNOWN, QUIET, ALIVE = range(4)


class Death(StrEnum):
    """Why something is dead."""

    METRIC = "metric"
    JOB = "job"
    VALUE = "label value"
    BUCKET = "le"
    THRESHOLD = "threshold"
    LOST = "label lost"
    JOIN = "join"
    RECORD = "recording rule"
    DROPPED = "dropped"
    DENIED = "denied"
    MISUSED = "misused"


class Whose(StrEnum):
    """Who has written a rule: this collection, somebody in the application's namespace, or somebody else."""

    OURS, APP, OTHERS = "ours", "app", "others"


@dataclass(frozen=True)
class Verdict:
    state: Standing
    why: str = ""
    kind: Death | None = None


ALIVE = Verdict(Standing.ALIVE)


def dead(kind: Death, why: str) -> Verdict:
    return Verdict(Standing.DEAD, why, kind)


def calm(why: str) -> Verdict:
    return Verdict(Standing.QUIET, why)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    return min(verdicts, key=lambda verdict: verdict.state, default=ALIVE)


def best(verdicts: Iterable[Verdict]) -> Verdict:
    return max(verdicts, key=lambda verdict: verdict.state)


@dataclass(frozen=True)
class LoadedRule:
    """A loaded rule.

    :param record: the metric that it records; empty for an alert. :param reason: why it is meant to be quiet.
    """

    name: str
    expr: str
    whose: Whose = Whose.OURS
    record: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    reason: str = ""


class RuleJudge:
    """Says of each rule, or of an expression of a panel, whether it is dead.

    :param rules: all that are loaded, since one may need what another one records.
    """

    def __init__(self, series: Series, rules: Iterable[LoadedRule]) -> None:
        self.series = series
        self.rules = list(rules)
        self.missing: dict[tuple[str, Whose], Verdict] = {}  # of the selectors that have no series
        self.records: dict[str, list[LoadedRule]] = {}
        for rule in self.rules:
            if rule.record:
                self.records.setdefault(rule.record, []).append(rule)
        self.measures = Measures(series, self._recorded)

    def _recorded(self, name: str) -> Json | None:
        """The tree of the one rule that records a metric; None where none or several do."""
        trees = [tree for rule in self.records.get(name, []) if (tree := self.series.trees.get(rule.expr))]
        return trees[0] if len(trees) == 1 else None

    def of_rules(self) -> list[Verdict]:
        """What each rule is; one whose expression is refused is unknown."""
        self._prepare(rule.expr for rule in self.rules)
        return self._rounds([partial(self.of_rule, rule) for rule in self.rules])

    def of_panels(self, exprs: Sequence[str]) -> list[Verdict]:
        """What each expression of a panel of ours is."""
        self._prepare([*exprs, *(rule.expr for rules in self.records.values() for rule in rules)])
        return self._rounds([partial(self.of, expr, Whose.OURS) for expr in exprs])

    def _rounds(self, judgements: list[Callable[[], Verdict]]) -> list[Verdict]:
        """Judge all, ask together what that wanted, and judge again those that wanted something."""
        found: dict[int, Verdict] = {}
        while len(found) < len(judgements):
            for number, judgement in enumerate(judgements):
                with contextlib.suppress(Unasked):
                    found[number] = found[number] if number in found else judgement()
            self.series.answer()
        return [found[number] for number in range(len(judgements))]

    def _prepare(self, exprs: Iterable[str]) -> None:
        """Ask what all expressions are known to need, so that the rounds are few."""
        wanted = list(dict.fromkeys(exprs))
        self.series.parse(wanted)
        trees = [tree for expr in wanted if (tree := self.series.trees[expr])]
        every = [node for tree in trees for node in promql.nodes(tree)]
        selectors = {promql.selection(node): node for node in every if node["type"] in promql.SELECTORS}
        self.series.ask([*selectors, *(promql.shape(node) for node in every if _joins(node))])
        # Of what is missing: whether it was there lately, and what is there of each of its labels.
        gone = [node for text, node in selectors.items() if self.series.there(text) is False]
        there = [node for node in gone if promql.name_of(node) in self.series.names]
        self.series.ask((promql.selection(node) for node in there), "lately")
        self.series.ask(text for node in there if not self.series.lately(promql.selection(node)) for text in variants(node))

    def of_rule(self, rule: LoadedRule, seen: frozenset[str] = frozenset()) -> Verdict:
        """:raises Unasked: as all that judges one."""
        return calm(f"its annotation says: {rule.reason}") if rule.reason else self.of(rule.expr, rule.whose, seen)

    def of(self, expr: str, whose: Whose, seen: frozenset[str] = frozenset()) -> Verdict:
        """:param seen: the recorded metrics on the way to an expression."""
        tree = self.series.trees.get(expr)
        return (
            Expression(self, whose, seen).judge(tree)
            if tree
            else Verdict(Standing.UNKNOWN, "Prometheus does not tell how it reads it")
        )


def variants(tree: Json) -> list[str]:
    """A selector without each of its labels, with each alone, without those whose values come with events, and without any."""
    labels = labels_of(tree)
    found = [text for label in labels for text in (promql.selection(tree, {label}), promql.selection(tree, labels - {label}))]
    some = (labels & set(quiet.COMING), labels - set(quiet.PLACES), labels)
    return [*found, *(promql.selection(tree, each) for each in some)]


def labels_of(tree: Json) -> set[str]:
    """The labels that a selector matches."""
    return {m["name"] for m in tree["matchers"]} - {"__name__"}


def _joins(tree: Json) -> bool:
    """Whether two sides need series that go together; which labels the next alert will have is not known."""
    matched = tree["type"] == "binaryExpr" and tree.get("matching") and tree["op"] not in ("or", "unless")
    return bool(matched) and not any(promql.name_of(node) in ALERTS for node in promql.selectors(tree))


class Expression:
    """The judgement of one expression."""

    def __init__(self, of: RuleJudge, whose: Whose, seen: frozenset[str]) -> None:
        self.of, self.series, self.whose, self.seen = of, of.series, whose, seen

    def judge(self, tree: Json, low: bool = False) -> Verdict:
        """:param low: whether the constant behind an ``or`` would do, as 0 does for ``< 1``."""
        kind = tree["type"]
        if kind in promql.SELECTORS:
            return self._selector(tree)
        if promql.is_constant(tree):
            return ALIVE
        if kind == "binaryExpr":
            return self._two(tree, low)
        if kind == "call" and tree["func"]["name"] in ("absent", "absent_over_time"):
            return ALIVE
        found = worst(self.judge(part, low) for part in promql.parts(tree))
        wrong = "" if found.state == Standing.DEAD else self.of.measures.misused(tree)
        return dead(Death.MISUSED, wrong) if wrong else found

    def _two(self, tree: Json, low: bool) -> Verdict:
        left, right, op = tree["lhs"], tree["rhs"], tree["op"]
        constant = [promql.is_constant(left), promql.is_constant(right)]
        if op == "unless":
            return self.judge(left, low)
        if op == "or":
            if any(constant):
                return ALIVE if low else self.judge(right if constant[0] else left, low)
            return best([self.judge(left, low), self.judge(right, low)])
        if op == "and":  # of whose right side no value counts
            found = worst([self.judge(left, low), self.judge(right, True)])
            return self._matched(tree, found)
        low = low or op in ("-", "/", "%", "==") or op in (("<", "<=") if constant[1] else (">", ">="))
        found = worst([self.judge(left, low), self.judge(right, low)])
        if all(constant):
            return ALIVE  # it asks nothing of the cluster
        if found.state in (Standing.QUIET, Standing.ALIVE) and any(constant):
            return self._compared(tree, constant[0]) or found
        return self._matched(tree, found)

    def _compared(self, tree: Json, turned: bool) -> Verdict | None:
        """What a constant is compared with in vain. :param turned: whether the constant is on the left."""
        name = self.of.measures.histogram(tree["rhs" if turned else "lhs"]) if tree["op"] in promql.COMPARISONS else ""
        if name:
            return dead(Death.MISUSED, f"{name} is a native histogram, which is never compared: use histogram_count")
        wrong = self.of.measures.threshold(tree, turned)
        return dead(Death.THRESHOLD, wrong) if wrong else None

    def _matched(self, tree: Json, found: Verdict) -> Verdict:
        """Two sides of which neither is dead by itself. :param found: what they are."""
        return worst([found, self._join(tree)]) if found.state in (Standing.QUIET, Standing.ALIVE) and _joins(tree) else found

    # Two sides.

    def _join(self, tree: Json) -> Verdict:
        """Whether series of both sides go together."""
        both, sides = promql.shape(tree), [tree["lhs"], tree["rhs"]]
        # Of what is refused the link rules tells.
        if not both or self.series.there(both) is not False:
            return ALIVE
        there = [self.series.there(promql.shape(side)) for side in sides]
        if None in there:
            return ALIVE
        matching = tree["matching"]
        names = set(matching.get("labels") or ())
        if not matching.get("on"):
            names = (self._names(sides[0]) | self._names(sides[1])) - names
        for label in sorted(names):
            values = [self._values(side, label) for side in sides]
            whole = all(0 < len(found) < SOME for found in values)
            if whole and values[0].isdisjoint(values[1]):
                return self._apart(tree, label, values)
        return calm("no series of its two sides have the same labels at the moment") if all(there) else ALIVE

    def _alike(self, side: Json) -> str:
        """What has series with the labels of a side of a join: itself, or it without what comes with events; or nothing."""
        exprs = promql.shape(side), promql.shape(side, quiet.COMING)
        return next((expr for expr in exprs if self.series.there(expr)), "")

    def _names(self, side: Json) -> set[str]:
        alike = self._alike(side)
        return self.series.labels(alike) if alike else set(promql.labels(side).known)

    def _values(self, side: Json, label: str) -> set[str]:
        """The values of a label of one side of a join, empty where they are not known."""
        alike = self._alike(side)
        there = self.series.values(label, alike) if alike else set()
        # Of what comes with events, others come with other values, but none with a label that no series has.
        if there and (alike == promql.shape(side) or (there == {""} and label not in quiet.COMING)):
            return there
        value = promql.labels(side).value(label)
        return set() if value is None else {value}

    @staticmethod
    def _apart(tree: Json, label: str, values: list[set[str]]) -> Verdict:
        bare = [found == {""} for found in values]
        if not any(bare):
            samples = [sorted(found - {""})[:1] for found in values]
            return dead(
                Death.JOIN,
                f"its two sides never have the same {label}: {tree['op']} finds {samples[0][0]} on the left and {samples[1][0]}"
                " on the right",
            )
        side, word = (tree["lhs"], "left") if bare[0] else (tree["rhs"], "right")
        by = f"it is joined by {label}, which"
        if any(promql.loses(node, label) for node in promql.nodes(side)):
            return dead(Death.LOST, f"{by} the aggregation on the {word} of {tree['op']} takes away")
        return dead(Death.JOIN, f"{by} no series on the {word} of {tree['op']} has")

    # Selectors.

    def _selector(self, tree: Json) -> Verdict:
        text = promql.selection(tree)
        there = self.series.there(text)
        if there is None:
            return _refused(tree)
        if there:
            return ALIVE
        key = text, self.whose
        if key not in self.of.missing:
            self.of.missing[key] = self._gone(tree)
        return self.of.missing[key]

    def _gone(self, tree: Json) -> Verdict:
        """Why a selector has no series."""
        name = promql.name_of(tree)
        alerts = {rule.name for rule in self.of.rules if not rule.record}
        if name in ALERTS and not any(holds(self._of(tree, "alertname"), alert) for alert in alerts):
            return self._wrong(tree, "alertname", alerts)
        if name in self.of.records:
            return self._recorded(tree, name)
        if name not in self.series.names if name else not self._named(tree):
            return self._missing(tree, name)
        every = promql.selection(tree, labels_of(tree) if name else ())
        ended = [self.series.lately(promql.selection(tree)), self.series.there(every) is False and self.series.lately(every)]
        if None in ended:
            return _refused(tree)
        if any(ended):
            return calm("its series ended within the last hour")
        return self._mismatch(tree, name) if self.series.there(every) else self._missing(tree, name)

    def _named(self, tree: Json) -> bool:
        matchers = [m for m in tree["matchers"] if m["name"] == "__name__"]
        return any(holds(matchers, name) for name in self.series.names)

    def _recorded(self, tree: Json, name: str) -> Verdict:
        """What is missing of what a loaded rule records."""
        if name in self.seen:
            return ALIVE  # a rule that reads itself
        rules, matchers = self.of.records[name], [m for m in tree["matchers"] if m["name"] != "__name__"]
        known = {rule.expr: self._labels(rule) for rule in rules}
        able = [r for r in rules if all(known[r.expr].holds(m["name"], m["type"], m["value"]) is not False for m in matchers)]
        if not able:
            wrong = next(m for m in matchers if known[rules[0].expr].holds(m["name"], m["type"], m["value"]) is False)
            label = wrong["name"]
            values = {value for labels in known.values() if (value := labels.value(label))}
            if not values:
                return dead(Death.LOST, f"{promql.shown(tree)}: the rule that records {name} takes the label {label} away")
            return self._wrong(tree, label, values)
        found = best(self.of.of_rule(rule, self.seen | {name}) for rule in able)
        if found.state == Standing.DEAD:
            return dead(Death.RECORD, f"the rule that records {name} can't: {found.why}")
        if found.state != Standing.ALIVE:
            return found
        sure = any(all(known[rule.expr].holds(m["name"], m["type"], m["value"]) for m in matchers) for rule in able)
        if sure or name not in self.series.names or self.series.lately(promql.selection(tree)) is not False:
            return calm("the rule that records it has had nothing to record yet")
        return self._mismatch(tree, name)

    def _labels(self, rule: LoadedRule) -> Labels:
        tree = self.series.trees.get(rule.expr)
        labels = promql.labels(tree) if tree else Labels(open=True)
        return Labels({**labels.known, **rule.labels}, labels.open)

    def _missing(self, tree: Json, name: str) -> Verdict:
        """Why no series has a metric's name."""
        series, shown = self.series, promql.shown(tree)
        if not name:
            return dead(Death.METRIC, f"no metric has a name that {shown} asks for")
        if self.whose == Whose.OTHERS and (why := self._foreign(tree, name)):
            return calm(why)
        if ":" in name:
            other = near(name, {*self.of.records, *(each for each in series.names if ":" in each)})
            return dead(Death.RECORD, f"no loaded rule records {name}" + _hint(other))
        if part := next((part for begin, part in series.without.items() if name.startswith(begin)), ""):
            return calm(f"the part {part} is skipped")
        if where := series.dropped(name, self._asked(tree)):
            return dead(Death.DROPPED, f"no series {shown}: the relabeling of {where} drops {name}")
        denied = next((place for pattern, place in series.denied.items() if re.search(pattern, name)), "")
        if not denied and quiet.ALLOWED.fullmatch(name):
            denied = "kube-state-metrics, which serves it for what its allow lists name"
        if denied:
            return dead(Death.DENIED, f"no series {shown}: {denied} denies {name}")
        if why := quiet.of_metric(name, series.names, self.whose == Whose.OURS):
            return self._unborn(tree, why)
        if series.declared(name):
            return calm("an exporter declares it, and has counted nothing yet")
        if name in series.names:
            return dead(Death.METRIC, f"no series {shown}: the last one of {name} ended more than an hour ago")
        return dead(Death.METRIC, f"no series {shown}: there is no metric {name}" + _hint(near(name, series.names)))

    def _foreign(self, tree: Json, name: str) -> str:
        """What somebody else's rule is about that this cluster does not have at all; empty where it is about something else."""
        matchers = [m for m in tree["matchers"] if m["name"] == "job" and m["type"] in ("=", "=~")]
        jobs = self.series.jobs
        # Names of jobs are much alike where one release makes them: only another spelling of one is taken for it.
        known = any(holds(matchers, job) for job in jobs) or {*map(_spelt, jobs)} & {*map(_spelt, meant(matchers))}
        if matchers and not known:
            return f"nothing on this cluster is scraped as job {matchers[0]['value']}"
        begin = re.split("[_:]", name)[0]
        # What a rule records comes from a rule, whatever the cluster has.
        if name and ":" not in name and not any(re.split("[_:]", each)[0] == begin for each in self.series.names):
            return f"nothing on this cluster serves metrics that begin with {begin}"
        return ""

    def _mismatch(self, tree: Json, name: str) -> Verdict:
        """Why a metric that is there has no series with the labels that a selector wants."""
        series = self.series
        labels = sorted(labels_of(tree))
        if self.whose == Whose.OTHERS and (why := self._foreign(tree, "")):
            return calm(why)
        if name and (where := series.dropped(name, self._asked(tree))):
            return dead(Death.DROPPED, f"no series {promql.shown(tree)}: the relabeling of {where} drops them")
        series.want(variants(tree))
        without = {label: promql.selection(tree, {label}) for label in labels}
        alone = {label: promql.selection(tree, set(labels) - {label}) for label in labels}
        coming = set(labels) & set(quiet.COMING)
        rest = promql.selection(tree, coming)
        if coming and series.there(rest):
            found = [self._blamed(tree, label, rest) for label in sorted(coming)]
            return worst(found)
        without_it = next((label for label in labels if label in quiet.PLACES and self._lacks(tree, name, label)), "")
        if (why := quiet.unborn(name)) and not series.there(promql.selection(tree, set(labels) - set(quiet.PLACES))):
            return self._blamed(tree, without_it, promql.selection(tree, set(labels))) if without_it else self._unborn(tree, why)
        blamed = [self._blamed(tree, label, without[label]) for label in labels if series.there(without[label])]
        if blamed:
            # Of several the one that a value is nearest to.
            first = best(blamed)
            return first if first.state == Standing.QUIET else min(blamed, key=lambda verdict: "nearest" not in verdict.why)
        wrong = next((label for label in labels if series.there(alone[label]) is False), "")
        if wrong:
            return self._blamed(tree, wrong, promql.selection(tree, set(labels)))
        return dead(Death.VALUE, f"no series {promql.shown(tree)}: none has these {len(labels)} labels together")

    def _lacks(self, tree: Json, name: str, label: str) -> bool:
        """Whether a selector wants a label that no series of its metric has; an alert has others than the next one."""
        every = promql.selection(tree, labels_of(tree))
        return (
            bool(name)
            and name not in ALERTS
            and not holds(self._of(tree, label), "")
            and self.series.values(label, every) == {""}
        )

    def _unborn(self, tree: Json, why: str) -> Verdict:
        """Whether what a series is to report, once it is born, is there at all."""
        for label in dict.fromkeys(m["name"] for m in tree["matchers"] if m["name"] in quiet.LASTING):
            there = self.series.all_values(label)
            if len(there) < SOME and not any(holds(self._of(tree, label), value) for value in {*there, ""}):
                return self._wrong(tree, label, there)
        reasons = (quiet.COMING["reason"] or ()) if promql.name_of(tree).startswith("kube_pod_") else ()
        asked = self._of(tree, "reason")
        typo = any(near(word, reasons, TYPO) for word in meant(asked))
        if typo and not any(holds(asked, reason) for reason in (*reasons, "")):
            return self._wrong(tree, "reason", set(reasons))
        return calm(why)

    def _asked(self, tree: Json) -> dict[str, list[str]]:
        """The values that a selector asks for of each of its labels, as far as they can be listed."""
        found = {}
        for label in labels_of(tree):
            matchers = self._of(tree, label)
            known = [*meant([m for m in matchers if m["type"] in ("=", "=~")]), *(quiet.COMING.get(label) or ())]
            found[label] = [value for value in dict.fromkeys(known) if holds(matchers, value)]
        return found

    @staticmethod
    def _of(tree: Json, label: str) -> list[Json]:
        return [m for m in tree["matchers"] if m["name"] == label]

    def _blamed(self, tree: Json, label: str, rest: str) -> Verdict:
        """What is to be said of a label whose value no series has. :param rest: the selector without it."""
        matchers = self._of(tree, label)
        there = self.series.values(label, rest)
        if any(holds(matchers, value) for value in there):
            return ALIVE
        if objects := quiet.of_objects(promql.name_of(tree), label):
            known, why = {*there, *objects.known}, objects.why
            asked = [m for m in matchers if m["type"] in ("=", "=~")]
            alike = {value.lower() for value in known}
            typo = any(near(word.lower(), alike, TYPO) for word in meant(asked))
            if not typo or any(holds(matchers, value) for value in known):
                return calm(why)
            return self._wrong(tree, label, known)
        if there == {""}:
            other = near(label, self.series.labels(rest))
            return dead(Death.VALUE, f"no series {promql.shown(tree)}: none has the label {label}" + _hint(other))
        coming = quiet.of_value(label, there)
        if self.whose == Whose.OURS and label == "service":
            coming = [f"{TEST_SERVICE}mark"]
        if coming is None and not nearest(label, matchers, there, TYPO):
            return calm(f"no series has such a {label} yet")
        if coming and any(holds(matchers, value) for value in coming):
            return calm(f"no series has such a {label} yet")
        return self._wrong(tree, label, there | set(coming or ()))

    def _wrong(self, tree: Json, label: str, there: set[str]) -> Verdict:
        kind = {"job": Death.JOB, "le": Death.BUCKET}.get(label, Death.VALUE)
        other = nearest(label, self._of(tree, label), there)
        return dead(kind, f"no series {promql.shown(tree)}: no {label} is so" + (_hint(f'{label}="{other}"') if other else ""))


def _spelt(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()


def _refused(tree: Json) -> Verdict:
    return Verdict(Standing.UNKNOWN, f"Prometheus refuses to say whether {promql.shown(tree)} has series")


def _hint(other: str) -> str:
    return f", nearest is {other}" if other else ""
