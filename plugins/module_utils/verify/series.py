# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which series Prometheus has, asked in few questions: many selectors in one, several side by side, each answer bounded."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import yaml

from ..kube.transport import ApiError
from . import promql, queries

Json = dict[str, Any]

LATELY = 3600.0  # seconds within which series count that are no more
MANY, SOME = 100_000, 1000  # names, and values of one label, that are read at most
URL, QUESTIONS = 4000, 40  # characters of one request, which a proxy before the API server may bound, and questions in it
AT_ONCE = 8  # requests
REFUSED = (400, 422)  # a question that can't be answered; any other status is of the server


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts that go into one request."""
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(quote(text)) + 60
        if batch and (size + length > URL or len(batch) == QUESTIONS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    found = list(items)
    if len(found) < 2:
        return [work(item) for item in found]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return list(pool.map(work, found))


def halved(work: Callable[[list[str]], None], texts: list[str]) -> None:
    """Ask again for each half of what can't be told together."""
    half = len(texts) // 2
    work(texts[:half])
    work(texts[half:])


class Series:
    """What one Prometheus has.

    :param query: the series of an expression, so many of them at most.
    :param get: what each shard answers at a path of Prometheus' API.
    :param parse: the tree of an expression; None for one that is refused.
    :param denied: patterns of metrics that an exporter is told not to serve, each with where that stands.
    """

    def __init__(
        self,
        query: Callable[[str, int], list[Any]],
        get: Callable[[str], list[Any]],
        parse: Callable[[str], Json | None],
        denied: dict[str, str] | None = None,
    ) -> None:
        self.query, self._get, self._parse = query, get, parse
        self.denied = denied or {}
        self.trees: dict[str, Json | None] = {}
        self._there: dict[str, bool | None] = {}
        self._lately: dict[str, bool] = {}
        self._values: dict[tuple[str, str], set[str]] = {}

    def renew(self) -> None:
        """Forget what was missing, and keep what was there."""
        self._there = {text: True for text, there in self._there.items() if there}
        self._lately, self._values = {}, {}
        self.__dict__.pop("types", None)

    def parse(self, exprs: Iterable[str]) -> None:
        """Read the trees of expressions; one is None where this Prometheus does not tell it."""
        side_by_side(self._parse_batch, batches(expr for expr in dict.fromkeys(exprs) if expr not in self.trees))

    def _parse_batch(self, exprs: list[str]) -> None:
        # A comment at the end of an expression would swallow the bracket.
        tree = self._parse(" or ".join(f"({expr}\n)" for expr in exprs))
        if tree is None and len(exprs) > 1:
            halved(self._parse_batch, exprs)
            return
        if tree is None:
            self.trees[exprs[0]] = None
            return
        for expr in reversed(exprs[1:]):
            self.trees[expr] = promql.bare(tree["rhs"])
            tree = tree["lhs"]
        self.trees[exprs[0]] = promql.bare(tree)

    def ask(self, exprs: Iterable[str]) -> None:
        """Ask which of these expressions have series."""
        side_by_side(self._ask_batch, batches(expr for expr in dict.fromkeys(exprs) if expr and not self._there.get(expr)))

    def _ask_batch(self, exprs: list[str]) -> None:
        asked = [queries.filled("there", expr=expr, number=str(number)) for number, expr in enumerate(exprs)]
        try:
            found = {series["metric"]["number"] for series in self.query(" or ".join(asked), 0)}
        except ApiError as error:
            if error.status not in REFUSED:
                raise
            if len(exprs) == 1:
                self._there[exprs[0]] = None
                return
            halved(self._ask_batch, exprs)
            return
        self._there.update({expr: str(number) in found for number, expr in enumerate(exprs)})

    def there(self, expr: str) -> bool | None:
        """Whether an expression has series now; None where Prometheus refuses to say."""
        if expr not in self._there:
            self.ask([expr])
        return self._there[expr]

    def ask_lately(self, selections: Iterable[str]) -> None:
        """Ask which of these selectors had series within the last hour."""
        side_by_side(self._ask_lately, batches(each for each in dict.fromkeys(selections) if each not in self._lately))

    def _ask_lately(self, selections: list[str]) -> None:
        # One series of any of them: mostly there is none, which is the end of it.
        since = ("start", f"{time.time() - LATELY:.0f}"), ("limit", "1")
        if any(self._get(f"/api/v1/series?{urlencode([*since, *(('match[]', each) for each in selections)])}")):
            if len(selections) == 1:
                self._lately[selections[0]] = True
                return
            halved(self._ask_lately, selections)
            return
        self._lately.update(dict.fromkeys(selections, False))

    def lately(self, selection: str) -> bool:
        """Whether a selector had series within the last hour."""
        self.ask_lately([selection])
        return self._lately[selection]

    def values(self, label: str, expr: str) -> set[str]:
        """The values that a label of an expression's series has; empty is one for series without it."""
        if (label, expr) not in self._values:
            found = self.query(queries.filled("values", expr=expr, label=label), SOME) if label.isidentifier() else []
            self._values[label, expr] = {series["metric"].get(label, "") for series in found[:SOME]}
        return self._values[label, expr]

    def labels(self, expr: str) -> set[str]:
        """The labels of one of an expression's series."""
        return {label for series in self.query(queries.filled("one", expr=expr), 1) for label in series["metric"]} - {"__name__"}

    def all_values(self, label: str, many: int = SOME) -> set[str]:
        """The values of a label of all series."""
        if (label, "") not in self._values:
            found = self._get(f"/api/v1/label/{quote(label, safe='')}/values?{urlencode({'limit': many})}")
            self._values[label, ""] = {value for values in found for value in values}
        return self._values[label, ""]

    @property
    def names(self) -> set[str]:
        """All metrics that have series."""
        return self.all_values("__name__", MANY)

    @property
    def jobs(self) -> set[str]:
        return self.all_values("job")

    @cached_property
    def types(self) -> dict[str, set[str]]:
        """What exporters say that a metric is, such as a gauge, also of those that have no series."""
        found: dict[str, set[str]] = {}
        for told in self._get(f"/api/v1/metadata?{urlencode({'limit': MANY, 'limit_per_metric': 5})}"):
            for name, entries in told.items():
                found.setdefault(name, set()).update(entry.get("type", "unknown") for entry in entries)
        return found

    def declared(self, name: str) -> bool:
        """Whether an exporter tells of a metric, be it without series."""
        stems = {name, *(name.removesuffix(end) for end in ("_bucket", "_count", "_sum", "_total", "_created"))}
        return not stems.isdisjoint(self.types)

    @cached_property
    def _relabelings(self) -> list[tuple[str, Json]]:
        """The rules of each scrape by which Prometheus takes or drops a series by its name."""
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        config = yaml.load(self._get("/api/v1/status/config")[0]["yaml"], Loader=loader) or {}
        return [
            (scrape["job_name"], rule)
            for scrape in config.get("scrape_configs") or []
            for rule in scrape.get("metric_relabel_configs") or []
            if rule.get("source_labels") == ["__name__"] and rule.get("action") in ("drop", "keep")
        ]

    def dropped(self, name: str) -> str:
        """The scrape that drops a metric by a relabeling; empty where none is known to."""
        for job, rule in self._relabelings:
            try:
                hit = re.fullmatch(str(rule.get("regex", ".*")), name) is not None
            except re.error:  # Go's expressions are nearly Python's
                continue
            if hit if rule["action"] == "drop" else not hit and self.declared(name):
                return job
        return ""
