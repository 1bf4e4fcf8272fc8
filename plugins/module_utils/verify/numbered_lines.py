# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steady proof that log lines arrive: the scheduled verification writes numbered lines, and asks every back end for them.

Each line ends in one of these ways in each back end:

- found within BOUND seconds;
- **late**: not found within BOUND, whatever the reason: nobody could read it in time;
- **missing**, after it was late: a back end that has answered for MISSING seconds does not have it;
- **unknown**, after it was late: the back end has given no answer until the line was given up. An error says nothing of a line.

A line that a back end has more than once is **double**. What was found is asked for once more by the next run, so that a double
that came later is seen.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..credentials.guard import hide
from ..kube.transport import ApiError, message_of, read_object
from . import given_backends, log_agents, log_stores

if TYPE_CHECKING:
    from .run import Run

APP = "flaskops-verify"  # the pod's label app.kubernetes.io/name, by which log agents name the application
LINES = 20  # of one run
BOUND = 30.0  # seconds after which a line is late
MISSING = 300.0  # seconds after which a line is missing
GIVEN_UP = 3600.0  # seconds after which a line that nothing is known of is asked for no more
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between two looks, the last one again and again
LIMIT = 10 * LINES  # lines that a back end is asked for
BEFORE = 60.0  # seconds before a line was written in which it is looked for too, for clocks that differ

Ask = Callable[[str, float], list[str]]  # a text and seconds, for the lines with this text of the last so many seconds


# The lines.


def line(run: str, number: int) -> str:
    """A line of a run. The last is JSON, as applications write, the others are plain text."""
    text = f"numbered line {run} {number}/{LINES} {datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')}"
    return json.dumps({"level": "info", "message": text}) if number == LINES else text


def count(run: str, texts: Iterable[str]) -> Counter[int]:
    """How often each number of a run is in what a back end has."""
    numbers = (re.search(rf"{run} (\d+)/", text) for text in texts)
    return Counter(int(found[1]) for found in numbers if found)


def say(text: str) -> None:
    # In one piece, since other threads write too.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# The back ends.


def _store(store: log_stores.Store, read: Callable[[str], str], namespace: str, text: str, seconds: float) -> list[str]:
    body = read(store.path(store.expression(namespace, APP, text), seconds, LIMIT))
    try:
        return [found.text for found in store.lines(body)]
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(200, f"the answer of {store.title} can't be read: {' '.join(body.split())[:100]}") from error


def _search(index: str, read: Callable[[str], str], text: str, _seconds: float) -> list[str]:
    found = read_object(200, read(log_stores.search_path(index, text, LIMIT)))
    try:
        return [json.dumps(hit["_source"], ensure_ascii=False) for hit in found["hits"]["hits"]]
    except (KeyError, TypeError) as error:
        raise ApiError(200, f"the answer is none of a search: {json.dumps(found)[:100]}") from error


def _events(given: dict[str, Any], text: str, seconds: float) -> list[str]:
    try:
        return list(islice(given_backends.cloudwatch(given)(text, seconds), LIMIT))
    except ImportError as error:
        raise ApiError(0, "the Python package boto3 is not in this image: build one that has it") from error


def _given(run: Run, given: dict[str, Any]) -> Ask:
    """What asks a back end of the option log_backends, of whose credentials no error tells."""

    def read(path: str) -> str:
        return given_backends.from_here(given, str(given["url"]).rstrip("/") + path, run)

    if given["type"] == "cloudwatch":
        ask: Ask = partial(_events, given)
    elif given["type"] in log_stores.STORES:
        ask = partial(_store, log_stores.STORES[given["type"]], read, run.target.namespace)
    else:
        ask = partial(_search, given.get("index") or "logs-*", read)

    def careful(text: str, seconds: float) -> list[str]:
        try:
            return ask(text, seconds)
        except Exception as error:
            words = str(error) if isinstance(error, ApiError) else f"{type(error).__name__}: {error}"
            raise ApiError(0, hide(words, given_backends.secrets_of(given))) from None

    return careful


def find(run: Run) -> dict[str, Ask]:
    """Every back end that can be asked, by the name of its link: those of log_backends, and those of the cluster.

    Whoever asks closes the run's ways in the end.

    :raises ApiError: when the API server does not say which there are.
    """
    found: dict[str, Ask] = {}
    named = {given["type"] for given in run.target.log_backends}

    def add(name: str, ask: Ask) -> None:
        more = sum(known.split(" ")[0] == name for known in found)
        found[f"{name} {more + 1}" if more else name] = ask

    def answer(status: int, body: str) -> str:
        if status != 200:
            raise ApiError(status, f"it answers {status} {message_of(body)}".strip())
        return body

    def across(index: log_agents.Index, path: str) -> str:
        return answer(*index.fetch(path, run.request_seconds()))

    def along(way: log_stores.Way, path: str) -> str:
        return answer(*way.fetch(path, run.request_seconds()))

    for given in run.target.log_backends:
        add(given["type"], _given(run, given))
    for name, store in log_stores.STORES.items():
        for service in [] if name in named else log_agents.services(run.get, store):
            add(name, partial(_store, store, partial(along, run.way(service)), run.target.namespace))
    for output in log_agents.outputs(run):
        name = log_agents.TITLES[output["type"]]
        inside = None if name in named else log_agents.index_inside(run, output)
        if inside:
            add(name, partial(_search, inside.name, partial(across, inside)))
    return found


# The counting.


@dataclass
class Written:
    """The lines of one run on their way into one back end."""

    run: str
    at: float
    absent: set[int]
    often: Counter[int] = field(default_factory=Counter)  # how often each was found at most


@dataclass
class Tally:
    """What is known of one back end. All numbers only grow, from zero."""

    written: int = 0
    late: int = 0
    missing: int = 0
    double: int = 0
    unknown: int = 0
    error: str = ""  # why it gave no answer last time
    since: float | None = None  # when it gave the first answer after the last error
    waiting: list[Written] = field(default_factory=list)

    def answered(self, lines: Written, found: Counter[int], now: float) -> None:
        self.error = ""
        self.since = now if self.since is None else self.since
        lines.absent -= set(found)
        for number, often in found.items():
            known = max(lines.often[number], 1)
            self.double += max(0, often - known)
            lines.often[number] = max(known, often)

    def failed(self, error: str) -> None:
        self.error, self.since = error, None

    def judge(self, lines: Written, now: float) -> None:
        """Decide about lines of a run before, which were just asked for; those that may still come go on waiting."""
        if self.since is None:
            over = now - lines.at > GIVEN_UP
            self.unknown += len(lines.absent) if over else 0
        else:
            over = not lines.absent or now - max(lines.at, self.since) >= MISSING
            self.missing += len(lines.absent) if over else 0
        if over:
            self.waiting.remove(lines)

    def shown(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("written", "late", "missing", "double", "unknown")}
        return numbers | ({"error": self.error} if self.error else {})


class NumberedLines:
    """The lines of all runs of this process. A process that ends takes what still waits with it: the next one starts again."""

    def __init__(self, every: float, write: Callable[[str], None] = say) -> None:
        self.bound = min(BOUND, every)
        self.write = write
        self.tallies: dict[str, Tally] = {}
        self.error = ""  # why the back ends could not be found
        self.clock: Callable[[], float] = time.monotonic
        self.wait: Callable[[float], Any] = time.sleep

    def round(self, run: Run) -> None:
        """Write the lines of one run, and ask every back end for them, and for those of the runs before.

        :param run: its deadline must be later than that of a verification, or nothing would be asked at the bound.
        """
        try:
            places = find(run)
        except ApiError as error:
            places, self.error = {}, f"the back ends can't be found: {error}"
        else:
            self.error = ""
        # With zeros from the first sight on, so that Prometheus sees the first increase as one.
        for name in places:
            self.tallies.setdefault(name, Tally())
        for name, tally in self.tallies.items():
            if name not in places and tally.waiting:
                self._give_up(tally, self.error or "it is not installed any more")
        if not places:
            return
        run_id, at = f"verify-{uuid.uuid4().hex}", self.clock()
        numbers = self._write(run_id)
        with ThreadPoolExecutor(max_workers=len(places)) as pool:
            jobs = []
            for name, ask in places.items():
                tally, lines = self.tallies[name], Written(run_id, at, set(numbers))
                tally.written += len(numbers)
                jobs.append(pool.submit(self._follow, tally, ask, lines))
            for job in jobs:
                job.result()
        for way in run.ways.values():
            way.close()

    def _write(self, run_id: str) -> set[int]:
        """The numbers that were written: a line that could not be is not missed."""
        written: set[int] = set()
        for number in range(1, LINES + 1):
            try:
                self.write(line(run_id, number))
            except OSError:
                break
            written.add(number)
        return written

    def _ask(self, tally: Tally, ask: Ask, lines: Written) -> None:
        try:
            found = count(lines.run, ask(lines.run, self.clock() - lines.at + BEFORE))
        except ApiError as error:
            tally.failed(str(error))
        except Exception as error:
            # An answer that nobody foresaw says nothing of the lines either, and must not end the verification.
            tally.failed(f"{type(error).__name__}: {error}")
        else:
            tally.answered(lines, found, self.clock())

    def _follow(self, tally: Tally, ask: Ask, lines: Written) -> None:
        """Ask for the lines of this run until all are there or late, then once for those of the runs before."""
        earlier = list(tally.waiting)
        tally.waiting.append(lines)
        looks = 0
        while True:
            self._ask(tally, ask, lines)
            left = lines.at + self.bound - self.clock()
            if not lines.absent or left <= 0:
                break
            self.wait(min(PAUSES[min(looks, len(PAUSES) - 1)], left))
            looks += 1
        tally.late += len(lines.absent)
        for before in earlier:
            # Where one question has no answer, the others would only wait for none.
            if not tally.error:
                self._ask(tally, ask, before)
            tally.judge(before, self.clock())

    def _give_up(self, tally: Tally, error: str) -> None:
        tally.failed(error)
        for lines in list(tally.waiting):
            tally.judge(lines, self.clock())

    def shown(self) -> dict[str, dict[str, Any]]:
        """What is known of each back end, for people."""
        return {name: tally.shown() for name, tally in list(self.tallies.items())}
