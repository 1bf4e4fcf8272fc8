# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbered cases of tests/cases/verify: how monitoring breaks, which link must be blamed, and what its cause must contain.

    what: The Service selects pods that nobody has.     a sentence
    break:                                              the ways of breakage.py, one after the other, each with its arguments
      - change: {of: service, put: {/spec/selector: {app: flask-apps}}}
    until:                                              its signs, each with its arguments; all are waited for in this order
      - no_endpoints: {}
    link: endpoint                                      the row that must be blamed, and no other
    cause: its selector is app=flask-apps               a regular expression
    options: {notified_severities: [critical]}          options of the verification, where they are not the usual ones
    agent: fluent bit                                   the log agent that it breaks, where it does: `collector` or `fluent bit`
    sample: true                                        run by `make test` too, and not by `make test-long` alone

A sign may also have `seconds`, for which it is waited at most, and `brings`, the label of pods of the namespace monitoring to
which kubelet shall bring a change at once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import NEEDS

from tests.breakage import AGENTS, SIGNS, WAYS, Bench, until

FOLDER = Path(__file__).parent / "cases/verify"
KEYS = {"what", "break", "until", "link", "cause", "options", "agent", "sample"}
Step = tuple[str, dict[str, Any]]


class CaseError(Exception):
    """A file that is no case; the message names it and says why."""


@dataclass(frozen=True)
class Case:
    """One way in which monitoring breaks."""

    name: str
    what: str
    ways: list[Step]
    link: str
    cause: str
    signs: list[Step] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    agent: str = ""
    sample: bool = False

    @contextmanager
    def broken(self, bench: Bench) -> Iterator[None]:
        """It is so within the block."""
        with ExitStack() as stack:
            for name, given in self.ways:
                stack.enter_context(WAYS[name](bench, **given))
            for name, given in self.signs:
                self._await(bench, name, dict(given))
            yield

    def _await(self, bench: Bench, name: str, given: dict[str, Any]) -> None:
        seconds, brings = given.pop("seconds", 180), given.pop("brings", "")
        look = partial(SIGNS[name], bench, **given)
        until(f"{self.name}: {name}", bench.poking(brings, look) if brings else look, seconds)


def _steps(found: Any, known: dict[str, Callable[..., Any]], more: set[str]) -> list[Step]:
    """The steps of a list; :raises ValueError: what is wrong with it."""
    steps = []
    for entry in found:
        ((name, given),) = entry.items()
        if name not in known:
            raise ValueError(f"{name} is none of {', '.join(known)}")
        try:
            inspect.signature(known[name]).bind(None, **{key: value for key, value in given.items() if key not in more})
        except TypeError as error:
            raise ValueError(f"{name}: {error}") from error
        steps.append((name, given))
    return steps


def parse(name: str, text: str) -> Case:
    """A case; :raises CaseError: what is wrong with its file."""
    try:
        found = yaml.safe_load(text)
        if unknown := set(found) - KEYS:
            raise ValueError(f"it has {', '.join(sorted(unknown))}, which no case has")
        case = Case(
            name,
            found["what"],
            _steps(found["break"], WAYS, set()),
            found["link"],
            found["cause"],
            _steps(found.get("until") or [], SIGNS, {"seconds", "brings"}),
            found.get("options") or {},
            found.get("agent", ""),
            found.get("sample", False),
        )
        re.compile(case.cause)
        if case.link not in NEEDS:
            raise ValueError(f"{case.link} is no row of verify")
        if not re.fullmatch(r"\d{3}(-[a-z0-9]+)+", name):
            raise ValueError("its name is no number of three digits with words behind it")
        if case.agent not in ("", *AGENTS):
            raise ValueError(f"{case.agent} is none of {', '.join(AGENTS)}")
        if not case.ways:
            raise ValueError("it breaks nothing")
    except KeyError as error:
        raise CaseError(f"{name}: it has no {error}") from error
    except (ValueError, TypeError, AttributeError, re.error, yaml.YAMLError) as error:
        raise CaseError(f"{name}: {error}") from error
    return case


def load(folder: Path = FOLDER) -> list[Case]:
    """All cases, in the order of their numbers."""
    cases = [parse(path.stem, path.read_text()) for path in sorted(folder.glob("*.yml"))]
    for number, case in enumerate(cases, 1):
        if not case.name.startswith(f"{number:03d}-"):
            raise CaseError(f"{case.name}: its number should be {number:03d}, so that none is missing or there twice")
    return cases


def named(name: str) -> Case:
    """The case with this name behind its number."""
    (case,) = (case for case in load() if case.name[4:] == name)
    return case
