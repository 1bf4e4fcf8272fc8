# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which series Prometheus has, asked in few requests: many questions in one, several side by side, each answer bounded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import product
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import yaml

from ..kube.transport import ApiError
from . import promql, queries

Json = dict[str, Any]
# What is asked of an expression: a query of queries.yml, the expression, and the label that it is about, if any.
Question = tuple[str, str, str]

MANY, SOME = 100_000, 1000  # names, and series of one answer, that are read at most
# Characters of one request, since proxies before an API server take 8190 mostly, and questions in it.
URL, QUESTIONS = 7500, 80
AT_ONCE = 8  # requests
REFUSED = (400, 422)  # a question that can't be answered; any other status is of the server
# How the names of series go on behind the name of their metric, and the types of metrics of which they do.
PARTS = {
    "_bucket": {"histogram", "gaugehistogram"},
    "_count": {"histogram", "summary"},
    "_sum": {"histogram", "summary"},
    "_total": {"counter"},
    "_created": {"counter", "histogram", "summary"},
    "_info": {"info"},
}
NUMBER = "__number"  # the label of an answer that says to which question of several it belongs


class Unasked(Exception):
    """Something is wanted that Prometheus was not asked yet: ``Series.answer`` asks it, with all else that is wanted."""


def batches(items: Iterable[Any], text: Callable[[Any], str]) -> Iterator[list[Any]]:
    """Items that go into one request. :param text: what is sent of one."""
    batch: list[Any] = []
    size = 0
    for item in items:
        length = len(quote_plus(text(item))) + len("+or+")
        if batch and (size + length > URL or len(batch) == QUESTIONS):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any]) -> None:
    found = list(items)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        list(pool.map(work, found))


def halved(work: Callable[[list[Any]], None], items: list[Any]) -> None:
    """Ask again for each half of what can't be told together."""
    half = len(items) // 2
    work(items[:half])
    work(items[half:])


def bracketed(expr: str) -> str:
    """An expression among others; a comment at its end would swallow the bracket."""
    return f"({expr}\n)"


def numbered(question: Question, number: int = QUESTIONS) -> str:
    """A question among others."""
    name, expr, label = question
    return queries.filled("numbered", question=queries.filled(name, expr=expr, label=label), number=str(number))


class Series:
    """What one Prometheus has. Each answer is kept; what was not asked raises ``Unasked``, and is asked by ``answer``.

    :param query: the series of an expression, so many of them at most.
    :param get: what each shard answers at a path of Prometheus' API.
    :param parse: the tree of an expression; None for one that is refused.
    :param denied: patterns of metrics that an exporter is told not to serve, each with where that stands.
    :param without: how metrics begin that a part would serve which is skipped, each with the part.
    """

    def __init__(
        self,
        query: Callable[[str, int], list[Any]],
        get: Callable[[str], list[Any]],
        parse: Callable[[str], Json | None],
        denied: dict[str, str] | None = None,
        without: dict[str, str] | None = None,
    ) -> None:
        self.query, self._get, self._parse = query, get, parse
        self.denied, self.without = denied or {}, without or {}
        self.trees: dict[str, Json | None] = {}
        self._answers: dict[Question, list[dict[str, str]] | None] = {}  # the labels of series; None where it is refused
        self._wanted: dict[Question, None] = {}
        self._listed: dict[str, set[str]] = {}

    def renew(self) -> None:
        """Forget what was missing, and keep what was there."""
        self._answers = {asked: found for asked, found in self._answers.items() if found and asked[0] == "there"}
        self._listed = {}
        for name in ("types", "_relabelings"):
            self.__dict__.pop(name, None)

    def parse(self, exprs: Iterable[str]) -> None:
        """Read the trees of expressions; one is None where this Prometheus does not tell it."""
        wanted = [expr for expr in dict.fromkeys(exprs) if expr not in self.trees]
        if wanted and not any(self.trees.values()) and self._parse(queries.filled("constant")) is None:
            self.trees.update(dict.fromkeys(wanted))  # it tells none, as before version 3
            return
        side_by_side(self._parse_batch, batches(wanted, bracketed))

    def _parse_batch(self, exprs: list[str]) -> None:
        tree = self._parse(" or ".join(map(bracketed, exprs)))
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

    def ask(self, exprs: Iterable[str], name: str = "there") -> None:
        """Ask which of these expressions have series, or another question without a label."""
        self._ask((name, expr, "") for expr in exprs if expr)

    def answer(self) -> None:
        """Ask all that was wanted and not asked yet."""
        wanted, self._wanted = self._wanted, {}
        self._ask(wanted)

    def _ask(self, questions: Iterable[Question]) -> None:
        new = [question for question in dict.fromkeys(questions) if question not in self._answers]
        side_by_side(self._ask_batch, batches(new, numbered))

    def _ask_batch(self, questions: list[Question]) -> None:
        try:
            found = self.query(" or ".join(numbered(question, number) for number, question in enumerate(questions)), SOME)
        except ApiError as error:
            if error.status not in REFUSED:
                raise
            if len(questions) == 1:
                self._answers[questions[0]] = None
            else:
                halved(self._ask_batch, questions)
            return
        if len(found) >= SOME and len(questions) > 1:  # it may have been cut off anywhere
            halved(self._ask_batch, questions)
            return
        answers: dict[Question, list[dict[str, str]]] = {question: [] for question in questions}
        for series in found[:SOME]:
            labels = dict(series["metric"])
            answers[questions[int(labels.pop(NUMBER))]].append(labels)
        self._answers.update(answers)

    def want(self, exprs: Iterable[str]) -> None:
        """:raises Unasked: where it is not known of all of these expressions whether they have series."""
        new = {("there", expr, ""): None for expr in exprs if ("there", expr, "") not in self._answers}
        self._wanted.update(new)
        if new:
            raise Unasked

    def _answer(self, name: str, expr: str, label: str = "") -> list[dict[str, str]] | None:
        question = name, expr, label
        if question not in self._answers:
            self._wanted[question] = None
            raise Unasked
        return self._answers[question]

    def there(self, expr: str) -> bool | None:
        """Whether an expression has series now; None where Prometheus refuses to say."""
        found = self._answer("there", expr)
        return None if found is None else bool(found)

    def lately(self, selection: str) -> bool | None:
        """Whether a selector had series within the last hour; None where Prometheus refuses to say."""
        found = self._answer("lately", selection)
        return None if found is None else bool(found)

    def values(self, label: str, expr: str) -> set[str]:
        """The values that a label of an expression's series has, SOME of them at most; empty is one for series without it."""
        found = self._answer("values", expr, label) if label.isidentifier() else None
        return {labels.get(label, "") for labels in found or ()}

    def labels(self, expr: str) -> set[str]:
        """The labels of one of an expression's series."""
        return {label for labels in self._answer("labels", expr) or () for label in labels} - {"__name__"}

    def all_values(self, label: str, many: int = SOME) -> set[str]:
        """The values of a label of all series, so many of them at most."""
        if label not in self._listed:
            found = self._get(f"/api/v1/label/{quote(label, safe='')}/values?{urlencode({'limit': many})}")
            self._listed[label] = {value for values in found for value in values}
        return self._listed[label]

    @property
    def names(self) -> set[str]:
        """All metrics that have series."""
        return self.all_values("__name__", MANY)

    @property
    def jobs(self) -> set[str]:
        """What is scraped. An alert of a job that is not there has series with its name too."""
        return self.values("job", queries.filled("scraped"))

    @cached_property
    def types(self) -> dict[str, set[str]]:
        """What exporters say that a metric is, such as a gauge, also of those that have no series."""
        found: dict[str, set[str]] = {}
        for told in self._get(f"/api/v1/metadata?{urlencode({'limit': MANY, 'limit_per_metric': 5})}"):
            for name, entries in told.items():
                found.setdefault(name, set()).update(entry.get("type", "unknown") for entry in entries)
        return found

    def declared(self, name: str) -> bool:
        """Whether an exporter reports a metric, be it without series, as the type of it says: a gauge has no _count."""
        kinds = self.types.get(name, set())
        # Either series have its plain name, as of a native histogram, or they have the longer ones.
        if kinds and not any(kinds & types and f"{name}{end}" in self.names for end, types in PARTS.items()):
            return True
        stems = {name.removesuffix(end): types for end, types in PARTS.items() if name.endswith(end)}
        return any(self.types.get(stem, set()) & types and stem not in self.names for stem, types in stems.items())

    def config(self) -> Json:
        """The configuration that Prometheus has loaded."""
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return yaml.load(self._get("/api/v1/status/config")[0]["yaml"], Loader=loader) or {}

    @cached_property
    def _relabelings(self) -> list[tuple[str, Json]]:
        """The rules of each scrape by which Prometheus takes or drops series by their name, alone or with other labels."""
        return [
            (scrape["job_name"], rule)
            for scrape in self.config().get("scrape_configs") or []
            for rule in scrape.get("metric_relabel_configs") or []
            if "__name__" in (rule.get("source_labels") or ()) and rule.get("action") in ("drop", "keep")
        ]

    def dropped(self, name: str, asked: dict[str, list[str]]) -> str:
        """The scrape that drops series by a relabeling; empty where none is known to. :param asked: values of their labels."""
        for job, rule in self._relabelings:
            sources = [[name] if label == "__name__" else asked.get(label, []) for label in rule["source_labels"]]
            texts = [rule.get("separator", ";").join(values) for values in product(*sources)]
            try:
                hits = [re.fullmatch(str(rule.get("regex", ".*")), text) is not None for text in texts]
            except re.error:  # Go's expressions are nearly Python's
                continue
            if hits and (all(hits) if rule["action"] == "drop" else not any(hits) and self.declared(name)):
                return job
        return ""
