# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels with which an alert reaches one receiver and nobody else, solved from Alertmanager's loaded routes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .routing import Json, Labels, holds, matchers

OTHER = "flaskops-verify"  # a value that no matcher expects
INHERITED = ("receiver", "group_by", "group_wait", "group_interval")
STEPS = 5000  # guesses, at most: a tree of routes has few labels, and a wrong guess is soon known to be one
TIMES = r"(?:[?*+]|\{(\d+)(?:,\d*)?\})?"
FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")
GROUP = re.compile(r"\((?:\?:)?([^()]*)\)" + TIMES)
# A part of an expression that stands for a letter: one of several, one of a kind, or itself.
PART = re.compile(r"(?:\[(\^?)(\\?.)[^]]*\]|(\\.)|(.))" + TIMES, re.DOTALL)
LETTERS = {r"\d": "1", r"\s": " ", r"\w": "x", r"\D": "x", r"\S": "x", r"\W": "-", r"\b": "", ".": "x", "^": "", "$": ""}


def _letters(part: re.Match[str]) -> str:
    """What such a part takes."""
    found = part[2] or part[3] or part[4]
    return ("x" if part[1] else LETTERS.get(found, found[-1])) * int(part[5] or 1)


def samples(pattern: str) -> list[str]:
    """Texts that a regular expression takes, at least one for each of its alternatives where it is a simple one."""
    if "[:" in pattern:  # a class of Go's, which Python reads otherwise
        return []
    plain = FLAGS.sub("", pattern).removeprefix("^").removesuffix("$")
    if whole := re.fullmatch(r"\((?:\?:)?([^()]*)\)", plain):
        plain = whole[1]
    while group := GROUP.search(plain):
        plain = plain[: group.start()] + group[1].split("|")[0] * int(group[2] or 1) + plain[group.end() :]
    found = []
    for part in plain.split("|"):
        text = PART.sub(_letters, part)
        found += [text] if Labels({"": text}).holds("", "=~", pattern) else []
    return found


def _values(route: Json) -> Iterator[tuple[str, list[str]]]:
    """The labels that a tree of routes asks for, each with values that its matchers name."""
    for name, op, value in matchers(route):
        yield name, samples(value) if "~" in op else [value]
    for child in route.get("routes") or []:
        yield from _values(child)


def _way(route: Json, wanted: str, inherited: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """The labels that are asked for on the ways to a receiver."""
    own, names = route.get("receiver") or inherited, (*above, *(name for name, _op, _value in matchers(route)))
    if own == wanted:
        yield from names
    for child in route.get("routes") or []:
        yield from _way(child, wanted, own, names)


def reached(route: Json, labels: Labels, inherited: str = "") -> tuple[set[str], set[str]]:
    """The receivers that a route may lead to, and those that it leads to whatever the unknown labels are."""
    own = route.get("receiver") or inherited
    possible: set[str] = set()
    certain: set[str] = set()
    taken: bool | None = False
    goes_on: bool | None = True
    for child in route.get("routes") or []:
        fits = holds(child, labels)
        if fits is False:
            continue
        may, must = reached(child, labels, own)
        possible |= may
        if fits and goes_on:
            certain |= must
            taken = True
        elif not taken:
            taken = None
        if not child.get("continue"):
            if fits:
                break
            goes_on = None
    if not taken:
        possible.add(own)
    if taken is False:
        certain.add(own)
    return possible, certain


def solve(route: Json, wanted: str, allowed: set[str], given: dict[str, str]) -> dict[str, str] | None:
    """Labels by which an alert reaches a receiver and, in addition to it, none but allowed ones; None where none were found.

    :param given: labels that it has unless a route wants another value.
    """
    guesses: dict[str, list[str]] = {name: [given.get(name, "")] for name in _way(route, wanted)}
    for name, values in _values(route):
        guesses.setdefault(name, [given.get(name, "")]).extend(values)
    left = STEPS

    def search(known: dict[str, str | None]) -> dict[str, str] | None:
        nonlocal left
        left -= 1
        possible, certain = reached(route, Labels(known))
        if left < 0 or wanted not in possible or certain - allowed - {wanted}:
            return None
        free = next((name for name in guesses if known[name] is None), None)
        if free is None:
            return {name: value for name, value in known.items() if value}
        tries = (search({**known, free: value}) for value in dict.fromkeys([*guesses[free], OTHER, ""]))
        return next((found for found in tries if found), None)

    return search({**given, **dict.fromkeys(guesses)})


def end(route: Json, labels: Labels, wanted: str, above: Json | None = None) -> Json | None:
    """The settings of the route by which an alert comes to a receiver, with those that it has from above; None where it does not.

    :param labels: all of them known.
    """
    own = {**(above or {}), **{key: route[key] for key in INHERITED if route.get(key)}}
    taken = False
    for child in route.get("routes") or []:
        if holds(child, labels):
            taken = True
            if found := end(child, labels, wanted, own):
                return found
            if not child.get("continue"):
                break
    return {**route, **own} if not taken and own.get("receiver") == wanted else None
