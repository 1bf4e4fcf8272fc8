# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an expression of PromQL says of itself: the labels of its result, and which series it needs.

It is read as the tree that Prometheus 3 makes of it (``/api/v1/parse_query``), since PromQL is Prometheus' to parse.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from . import queries
from .routing import Labels

Json = dict[str, Any]

SETS = ("and", "or", "unless")
SELECTORS = ("vectorSelector", "matrixSelector")
WRAPPERS = ("parenExpr", "unaryExpr", "subquery", "stepInvariantExpr")
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
RATES = ("rate", "irate", "increase")  # of counters
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
CHOOSERS = ("topk", "bottomk", "limitk", "limit_ratio")


def labels(tree: Json) -> Labels:
    """The labels of the series that an expression gives."""
    kind = tree["type"]
    if kind in SELECTORS:
        equal = {m["name"]: m["value"] for m in tree["matchers"] if m["type"] == "=" and m["value"] and m["name"] != "__name__"}
        return Labels(dict(equal), open=True)
    if kind == "aggregation":
        return _aggregated(tree)
    if kind == "binaryExpr":
        return _joined(tree)
    if kind == "call":
        return _called(tree)
    if kind in WRAPPERS:
        return labels(tree["expr"])
    return Labels()  # a number or a text has none


def _aggregated(tree: Json) -> Labels:
    inner, names = labels(tree["expr"]), set(tree.get("grouping") or ())
    if tree["op"] in CHOOSERS:
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
    scalars = [is_scalar(side) for side in (tree["lhs"], tree["rhs"])]
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


def is_scalar(tree: Json) -> bool:
    """Whether an expression is a number or a text, and no series."""
    kind = tree["type"]
    if kind in ("numberLiteral", "stringLiteral"):
        return True
    if kind == "binaryExpr":
        return is_scalar(tree["lhs"]) and is_scalar(tree["rhs"])
    if kind == "call":
        return tree["func"]["name"] in ("scalar", "time", "pi")
    return kind in ("parenExpr", "unaryExpr", "stepInvariantExpr") and is_scalar(tree["expr"])


def _known(name: str, left: Labels, right: Labels) -> str | None:
    """The value of a label that both sides have alike."""
    one, other = left.value(name), right.value(name)
    return other if one is None else one


def _either(left: Labels, right: Labels) -> Labels:
    """What is known of a series that comes from one side or the other."""
    names = {*left.known, *right.known}
    found = {name: left.value(name) if left.value(name) == right.value(name) else None for name in names}
    return Labels(found, left.open or right.open)


def parts(tree: Json) -> list[Json]:
    """The expressions that an expression is made of, without the parameter of an aggregation."""
    kind = tree["type"]
    if kind == "binaryExpr":
        return [tree["lhs"], tree["rhs"]]
    if kind == "call":
        return list(tree["args"])
    return [tree["expr"]] if "expr" in tree else []


def nodes(tree: Json) -> Iterator[Json]:
    """An expression and all that it is made of."""
    yield tree
    for part in parts(tree):
        yield from nodes(part)


def selectors(tree: Json) -> list[Json]:
    """The selectors of an expression."""
    return [node for node in nodes(tree) if node["type"] in SELECTORS]


def is_constant(tree: Json) -> bool:
    """Whether an expression needs no series."""
    return not selectors(tree)


def loses(tree: Json, label: str) -> bool:
    """Whether an expression is an aggregation that takes a label away."""
    if tree["type"] != "aggregation" or tree["op"] in CHOOSERS:
        return False
    return (label in (tree.get("grouping") or ())) == bool(tree.get("without"))


def bare(tree: Json) -> Json:
    """An expression without what only stands around it."""
    return bare(tree["expr"]) if tree["type"] in ("parenExpr", "stepInvariantExpr") else tree


def name_of(tree: Json) -> str:
    """The metric that a selector names; empty where it gives a pattern."""
    return next((m["value"] for m in tree["matchers"] if m["name"] == "__name__" and m["type"] == "="), "")


def selection(tree: Json, leave: Collection[str] = ()) -> str:
    """The series of now that a selector selects, as PromQL.

    :param leave: labels whose matchers are skipped.
    """
    texts = [f"{_label(m['name'])}{m['type']}{_text(m['value'])}" for m in tree["matchers"] if m["name"] not in leave]
    return "{" + ",".join(sorted(texts)) + "}"


def shown(tree: Json) -> str:
    """A selector for people."""
    name = name_of(tree)
    rest = selection(tree, ("__name__",) if name else ())
    return name + (rest if rest != "{}" else "")


def shape(tree: Json, leave: Collection[str] = ()) -> str:
    """PromQL whose series have the labels of an expression's, whatever their values are: it compares nothing, and asks for now.

    It is empty where that can't be said, as of what must be absent. :param leave: labels whose matchers are skipped.
    """
    kind = tree["type"]
    if kind in SELECTORS:
        return selection(tree, leave)
    if is_constant(tree):
        return queries.filled("constant")
    if kind == "binaryExpr":
        return _shape_of_two(tree, leave)
    if kind == "call":
        return _shape_of_call(tree, leave)
    inner = shape(tree["expr"], leave)
    if kind != "aggregation" or not inner:
        return inner and f"({inner})"
    op, names = tree["op"], ",".join(_label(name) for name in tree.get("grouping") or ())
    parameter = {"quantile": "0.5,", "topk": "1,", "bottomk": "1,"}.get(op, "")
    if op == "count_values":
        parameter = f"{_text(tree['param']['val'])},"
    if op in CHOOSERS and not parameter:  # an experiment of Prometheus', which may be off
        return inner
    return f"{op} {'without' if tree.get('without') else 'by'} ({names}) ({parameter}{inner})"


def _shape_of_call(tree: Json, leave: Collection[str]) -> str:
    name, vectors = tree["func"]["name"], [arg for arg in tree["args"] if not is_scalar(arg)]
    if name in ("absent", "absent_over_time") or not vectors:
        return ""
    inner = shape(vectors[0], leave)
    if not inner or name not in ("label_replace", "label_join", "histogram_quantile"):
        return inner
    if name == "histogram_quantile":
        return f"{name}(0.5, {inner})"
    return f"{name}({inner}, {', '.join(_text(arg['val']) for arg in tree['args'][1:])})"


def _shape_of_two(tree: Json, leave: Collection[str]) -> str:
    left, right, op = tree["lhs"], tree["rhs"], tree["op"]
    if is_scalar(left) or is_scalar(right):
        return shape(right if is_scalar(left) else left, leave)
    sides = [shape(left, leave), "" if op == "unless" else shape(right, leave)]
    if op == "unless" or not all(sides):
        return sides[0] if op == "unless" else ""
    matching = tree.get("matching") or {}
    names = ",".join(_label(name) for name in matching.get("labels") or ())
    words = [op if op in SETS else "+"]
    if names or matching.get("on"):
        words.append(f"{'on' if matching.get('on') else 'ignoring'} ({names})")
    if side := {"many-to-one": "left", "one-to-many": "right"}.get(matching.get("card", "")):
        words.append(f"group_{side} ({','.join(_label(name) for name in matching.get('include') or ())})")
    return f"({sides[0]}) {' '.join(words)} ({sides[1]})"


def _label(name: str) -> str:
    return name if re.fullmatch(r"[a-zA-Z_]\w*", name) else _text(name)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def number(tree: Json) -> float | None:
    """The value of a number, also of a small sum and as a vector; None of all else."""
    tree = bare(tree)
    if tree["type"] == "numberLiteral":
        return float(tree["val"])
    if tree["type"] == "call" and tree["func"]["name"] in ("vector", "scalar"):
        return number(tree["args"][0])
    if tree["type"] == "unaryExpr":
        value = number(tree["expr"])
        return -value if value is not None and tree["op"] == "-" else value
    if tree["type"] != "binaryExpr" or tree["op"] not in ARITHMETIC:
        return None
    left, right = number(tree["lhs"]), number(tree["rhs"])
    if left is None or right is None or (right == 0 and tree["op"] == "/"):
        return None
    return ARITHMETIC[tree["op"]](left, right)


def is_share(tree: Json) -> bool:
    """Whether a quotient is of a part by its whole: counts or rates of the same series, of which the part selects fewer."""
    part = bare(tree["lhs"])
    if part.get("op") == "or" and is_constant(part["rhs"]):
        part = part["lhs"]  # such as the 0 of what has not happened yet
    counted = any(node.get("op") == "count" or (node["type"] == "call" and node["func"]["name"] in RATES) for node in nodes(part))
    return counted and (tree.get("matching") or {}).get("card") == "one-to-one" and _is_part(part, tree["rhs"])


def _is_part(one: Json, other: Json) -> bool:
    """Whether two expressions are the same but for matchers that the first one has in addition."""
    one, other = bare(one), bare(other)
    kind = one["type"]
    if kind != other["type"]:
        return False
    if kind in SELECTORS:
        rest = [{key: value for key, value in tree.items() if key != "matchers"} for tree in (one, other)]
        own, wanted = ([(m["name"], m["type"], m["value"]) for m in tree["matchers"]] for tree in (one, other))
        return rest[0] == rest[1] and set(wanted) <= set(own)
    if kind == "aggregation":
        same = all((one.get(key) or "") == (other.get(key) or "") for key in ("op", "without"))
        groups = [set(tree.get("grouping") or ()) for tree in (one, other)]
        return same and one["op"] in ("sum", "count") and groups[0] == groups[1] and _is_part(one["expr"], other["expr"])
    if kind == "call" and one["func"]["name"] == other["func"]["name"] in RATES:
        return _is_part(one["args"][0], other["args"][0])
    return False
