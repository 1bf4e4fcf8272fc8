# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a function of PromQL is for, and between which numbers its result is: how a histogram or a counter is misused, and which
threshold nothing reaches."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from . import promql
from .nearest import number_of
from .series import SOME, Series

Json = dict[str, Any]

# What no exporter declares, because Prometheus writes it itself.
WRITTEN = re.compile(r"up|ALERTS(_FOR_STATE)?|scrape_(duration_seconds|samples_.+|series_added)")
OF_NATIVE = ("histogram_count", "histogram_sum", "histogram_avg", "histogram_stddev", "histogram_stdvar")
TRUTHS = ("up", "probe_success")  # 0 or 1
# What gives one of the values that it gets, or something between them.
KEEPING = ("max", "min", "avg", "quantile", "topk", "bottomk", "limitk", "limit_ratio")
OVER_TIME = ("max_over_time", "min_over_time", "avg_over_time", "last_over_time", "first_over_time", "quantile_over_time")
RENAMING = ("label_replace", "label_join", "sort", "sort_desc", "sort_by_label", "sort_by_label_desc")


@dataclass(frozen=True)
class Range:
    """Between which numbers a result is, both of them included, and what is said of a threshold above or below."""

    low: float = -inf
    high: float = inf
    above: str = ""
    below: str = ""

    def never(self, op: str, number: float) -> str:
        """Why it never compares so with a number; empty where it may."""
        if (op == ">" and self.high <= number) or (op in (">=", "==") and self.high < number):
            return f"{self.above}, and the threshold is {number:g}"
        if (op == "<" and self.low >= number) or (op in ("<=", "==") and self.low > number):
            return f"{self.below}, and the threshold is {number:g}"
        return f"{self.above}, and the threshold is {number:g}" if op == "!=" and self.low == self.high == number else ""

    def changed(self, op: str, number: float, turned: bool) -> Range:
        """It after an operation with a number. :param turned: whether the number is on the left."""
        if op in "+-":
            shift = -number if op == "-" and not turned else number
            low, high = (-self.high, -self.low) if op == "-" and turned else (self.low, self.high)
            found = replace(self, low=low + shift, high=high + shift)
            return replace(found, above=self.below, below=self.above) if op == "-" and turned else found
        if number <= 0 or (op == "/" and turned):
            return Range()
        factor = 1 / number if op == "/" else number
        return replace(self, low=self.low * factor, high=self.high * factor)


ANY = Range()


class Measures:
    """Judges functions and thresholds by the series that there are.

    :param recorded: the tree of the one rule that records a metric, None where none or several do.
    """

    def __init__(self, series: Series, recorded: Callable[[str], Json | None]) -> None:
        self.series, self.recorded = series, recorded

    # Histograms and counters.

    def misused(self, tree: Json) -> str:
        """How a function or an aggregation is used on what it is not for; empty where it is not."""
        if tree["type"] == "aggregation":
            lost = tree["op"] in ("sum", "avg") and promql.loses(tree, "le")
            buckets = self._buckets(tree["expr"]) if lost and promql.labels(tree["expr"]).value("le") != "" else []
            return f"{tree['op']} adds up the buckets of {buckets[0]}: add by (le), or ask its _count" if buckets else ""
        if tree["type"] != "call":
            return ""
        name, arguments = tree["func"]["name"], tree["args"]
        if name in ("histogram_quantile", "histogram_fraction"):
            share = promql.number(arguments[0]) if name == "histogram_quantile" else None
            return self._no_buckets(name, share, arguments[-1])
        if name in OF_NATIVE:
            plain = [each for each in map(promql.name_of, promql.selectors(arguments[0])) if self._plain(each)]
            return f"{name} is for native histograms, and {plain[0]} is none" if plain else ""
        of = next((promql.name_of(found) for arg in arguments if (found := _ranged(arg))), "")
        kinds = self._kinds(of)
        if name in (*promql.RATES, "resets") and kinds == {"gauge"}:
            return f"{name} is for counters, and {of} is a gauge"
        if name in promql.RATES and self._is_rate(self.recorded(of)):
            return f"{name} is for counters, and {of} is recorded as a rate"
        if name in ("delta", "idelta", "deriv") and kinds == {"counter"}:
            return f"{name} is for gauges, and {of} is a counter"
        return ""

    def _kinds(self, name: str) -> set[str]:
        """What is known of a metric."""
        return {"gauge"} if WRITTEN.fullmatch(name) else self.series.types.get(name, set())

    def _native(self, name: str) -> bool:
        return "histogram" in self._kinds(name)  # a native one has no buckets of its own

    def _plain(self, name: str) -> bool:
        """Whether a metric is known to be plain numbers."""
        part = re.fullmatch(r"(.+)_(bucket|count|sum)", name)
        return bool(part and self._native(part[1])) or ({"gauge", "counter", "summary"} >= self._kinds(name) != set())

    @staticmethod
    def _is_rate(tree: Json | None) -> bool:
        """Whether what a rule records is a rate, be it an aggregated one."""
        if tree is None:
            return False
        tree = promql.bare(tree)
        while tree["type"] == "aggregation":
            tree = promql.bare(tree["expr"])
        return bool(tree["type"] == "call" and tree["func"]["name"] in promql.RATES)

    def _no_buckets(self, function: str, share: float | None, tree: Json) -> str:
        """Why a function gets no number of the buckets that it is given. :param share: the quantile that is asked for."""
        if share is not None and not 0 <= share <= 1:
            return f"{function} takes a share from 0 to 1, and gets {share:g}"
        selectors = promql.selectors(tree)
        names = [promql.name_of(node) for node in selectors]
        if any(self._native(name) for name in names):
            return ""
        if promql.labels(tree).value("le") == "" or promql.loses(promql.bare(tree), "le"):
            return f"{function} gets no label le: add le to the by of its aggregation"
        plain = [name for name in names if name and re.search(r"_(count|sum|total)$", name)]
        if plain:
            return f"{function} gets {plain[0]}, which has no buckets"
        if any(node["type"] == "call" and node["func"]["name"] in RENAMING for node in promql.nodes(tree)):
            return ""
        values = [self.series.values("le", promql.selection(node)) for node in selectors]
        there = set().union(*values)
        if not there or any(len(found) >= SOME for found in values):
            return ""
        if there == {""}:
            return f"{function} gets {names[0]}, which has no buckets"
        last = any(number_of(value) == inf for value in there)
        return "" if last else f"{function} gets no bucket +Inf of {names[0]}, and gives no number without it"

    @staticmethod
    def _buckets(tree: Json) -> list[str]:
        """The buckets that an expression takes all of."""
        return [
            promql.name_of(node)
            for node in promql.selectors(tree)
            if promql.name_of(node).endswith("_bucket") and not any(m["name"] == "le" for m in node["matchers"])
        ]

    # Thresholds.

    def threshold(self, tree: Json, turned: bool) -> str:
        """Why a comparison with a number never holds; empty where it may. :param turned: whether the number is on the left."""
        number = promql.number(tree["lhs" if turned else "rhs"])
        if number is None or tree.get("bool") or tree["op"] not in promql.COMPARISONS:
            return ""
        op = tree["op"].translate(str.maketrans("<>", "><")) if turned else tree["op"]
        return self.range(tree["rhs" if turned else "lhs"]).never(op, number)

    def histogram(self, tree: Json) -> str:
        """The native histogram that an expression gives, which nothing can be compared with; empty for numbers."""
        tree = promql.bare(tree)
        if tree["type"] == "aggregation" and tree["op"] in ("sum", "avg"):
            return self.histogram(tree["expr"])
        if tree["type"] == "call" and tree["func"]["name"] in (*promql.RATES, "delta", "sum_over_time", "avg_over_time"):
            return self.histogram(tree["args"][0])
        name = promql.name_of(tree) if tree["type"] in promql.SELECTORS else ""
        return name if self._native(name) and self.series.there(promql.selection(tree)) else ""

    def range(self, tree: Json, seen: frozenset[str] = frozenset()) -> Range:
        """Between which numbers an expression is, as far as that is known. :param seen: recorded metrics on the way to it."""
        tree = promql.bare(tree)
        kind = tree["type"]
        if (number := promql.number(tree)) is not None:
            return Range(number, number, f"it is {number:g}", f"it is {number:g}")
        if kind == "subquery":
            return self.range(tree["expr"], seen)
        if kind in promql.SELECTORS:
            return self._of_metric(promql.name_of(tree), seen)
        if kind == "aggregation":
            if tree["op"] in ("count", "group"):
                high = 1 if tree["op"] == "group" else inf
                return Range(1, high, "group is 1", f"{tree['op']} is never below 1, for of no series there is none: use absent")
            inner = self.range(tree["expr"], seen)
            if tree["op"] == "sum" and inner.low >= 0:
                return Range(0, below=inner.below)
            return inner if tree["op"] in KEEPING else ANY
        if kind == "binaryExpr":
            return self._of_two(tree, seen)
        return self._of_call(tree, seen) if kind == "call" else ANY

    def _of_metric(self, name: str, seen: frozenset[str]) -> Range:
        if name in TRUTHS:
            return Range(0, 1, f"{name} is never above 1", f"{name} is never below 0")
        tree = None if name in seen else self.recorded(name)
        return self.range(tree, seen | {name}) if tree else ANY

    def _of_two(self, tree: Json, seen: frozenset[str]) -> Range:
        left, right, op = tree["lhs"], tree["rhs"], tree["op"]
        if op in promql.COMPARISONS:
            return ANY if tree.get("bool") else self.range(left, seen)
        if op in ("and", "unless"):
            return self.range(left, seen)
        if op == "or":
            one, other = self.range(left, seen), self.range(right, seen)
            return replace(one, low=min(one.low, other.low), high=max(one.high, other.high))
        numbers = [promql.number(left), promql.number(right)]
        for turned, number in enumerate(numbers):
            if number is not None and op in promql.ARITHMETIC:
                return self.range(left if turned else right, seen).changed(op, number, not turned)
        if op == "/" and promql.is_share(tree):
            return Range(0, 1, "a part of something is never above all of it (1, or 100 %)", "a share is never below 0")
        return ANY

    def _of_call(self, tree: Json, seen: frozenset[str]) -> Range:
        name, arguments = tree["func"]["name"], tree["args"]
        if name in ("absent", "absent_over_time"):
            return Range(1, 1, f"{name} is 1 or nothing", f"{name} is 1 or nothing")
        if name in OVER_TIME or name in RENAMING:
            return self.range(arguments[1 if name == "quantile_over_time" else 0], seen)
        if name in ("ceil", "floor", "round") and len(arguments) == 1:
            inner = self.range(arguments[0], seen)
            return replace(inner, low=inner.low // 1, high=-(-inner.high // 1)) if inner.high < inf else ANY
        if name in (*promql.RATES, "resets", "changes"):
            return Range(0, below=f"{name} is never below 0")
        if name != "histogram_quantile":
            return ANY
        selectors = promql.selectors(arguments[1])
        bounds = [number_of(value) for node in selectors for value in self.series.values("le", promql.selection(node))]
        finite = [bound for bound in bounds if bound is not None and bound != inf]
        if not finite:
            return ANY
        low, high, of = min(0, *finite), max(finite), promql.name_of(selectors[0])
        return Range(low, high, f"no quantile of {of} is above {high:g}, its last bucket", f"no quantile is below {low:g}")


def _ranged(tree: Json) -> Json | None:
    """The selector whose samples a function gets."""
    inner = promql.bare(tree["expr"]) if tree["type"] == "subquery" else tree
    return inner if inner["type"] in promql.SELECTORS and tree["type"] in ("matrixSelector", "subquery") else None
