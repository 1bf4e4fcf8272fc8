# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an expression of PromQL says of itself: the labels of its result.

It is read as the tree that Prometheus 3 makes of it (``/api/v1/parse_query``), since PromQL is Prometheus' to parse.
"""

from __future__ import annotations

from typing import Any

from .routing import Labels

Json = dict[str, Any]

SETS = ("and", "or", "unless")


def labels(tree: Json) -> Labels:
    """The labels of the series that an expression gives."""
    kind = tree["type"]
    if kind in ("vectorSelector", "matrixSelector"):
        equal = {m["name"]: m["value"] for m in tree["matchers"] if m["type"] == "=" and m["value"] and m["name"] != "__name__"}
        return Labels(dict(equal), open=True)
    if kind == "aggregation":
        return _aggregated(tree)
    if kind == "binaryExpr":
        return _joined(tree)
    if kind == "call":
        return _called(tree)
    if kind in ("parenExpr", "unaryExpr", "subquery", "stepInvariantExpr"):
        return labels(tree["expr"])
    return Labels()  # a number or a text has none


def _aggregated(tree: Json) -> Labels:
    inner, names = labels(tree["expr"]), set(tree.get("grouping") or ())
    if tree["op"] in ("topk", "bottomk", "limitk", "limit_ratio"):
        return inner
    if tree.get("without"):
        return Labels({k: v for k, v in inner.known.items() if k not in names}, inner.open)
    found: dict[str, str | None] = {name: inner.value(name) for name in names}
    if tree["op"] == "count_values":
        found[tree["param"]["val"]] = None
    # A label without a value is none.
    return Labels({name: value for name, value in found.items() if value != ""})


def _called(tree: Json) -> Labels:
    name, arguments = tree["func"]["name"], tree["args"]
    if name in ("absent", "absent_over_time"):
        return Labels(labels(arguments[0]).known)
    vectors = [each for each in arguments if each["type"] not in ("numberLiteral", "stringLiteral")]
    found = labels(vectors[0]) if vectors else Labels()
    if name in ("label_replace", "label_join"):
        return Labels({**found.known, arguments[1]["val"]: None}, found.open)
    if name == "histogram_quantile":
        return Labels({key: value for key, value in found.known.items() if key != "le"}, found.open)
    return found


def _joined(tree: Json) -> Labels:
    left, right = labels(tree["lhs"]), labels(tree["rhs"])
    scalars = [side["type"] in ("numberLiteral",) or _is_scalar(side) for side in (tree["lhs"], tree["rhs"])]
    if scalars[0] != scalars[1]:
        return right if scalars[0] else left
    if tree["op"] == "or":
        return _either(left, right)
    matching = tree.get("matching") or {}
    if tree["op"] in SETS or matching.get("card") in ("many-to-one", "one-to-many"):
        many, one = (right, left) if matching.get("card") == "one-to-many" else (left, right)
        taken: dict[str, str | None] = {name: one.value(name) for name in matching.get("include") or ()}
        return Labels({**many.known, **{name: value for name, value in taken.items() if value != ""}}, many.open)
    names = set(matching.get("labels") or ())
    if matching.get("on"):
        found = {name: _known(name, left, right) for name in names}
        return Labels({name: value for name, value in found.items() if value != ""})
    merged = {name: _known(name, left, right) for name in {*left.known, *right.known} - names}
    return Labels(merged, left.open and right.open)


def _is_scalar(tree: Json) -> bool:
    if tree["type"] == "parenExpr" or tree["type"] == "unaryExpr":
        return tree["expr"]["type"] == "numberLiteral" or _is_scalar(tree["expr"])
    return tree["type"] == "call" and tree["func"]["name"] in ("scalar", "time", "pi")


def _known(name: str, left: Labels, right: Labels) -> str | None:
    """The value of a label that both sides have alike."""
    one, other = left.value(name), right.value(name)
    return other if one is None else one


def _either(left: Labels, right: Labels) -> Labels:
    """What is known of a series that comes from one side or the other."""
    names = {*left.known, *right.known}
    found = {name: left.value(name) if left.value(name) == right.value(name) else None for name in names}
    return Labels(found, left.open or right.open)
