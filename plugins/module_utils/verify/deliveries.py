# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of Alertmanager's notifications: its counters have it by receiver, and its log has the words of who refused.

Source: Alertmanager's packages notify and dispatch, versions 0.27 to 0.28.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

from ..credentials.guard import HIDDEN, RANDOM
from ..kube.transport import ApiError
from .notification import NOBODY, bare
from .stack import Server, Stack

FEATURE = "receiver-name-in-metrics"
SENT, REFUSED = "alertmanager_notification_requests_total", "alertmanager_notification_requests_failed_total"
SAMPLE = re.compile(rf"({SENT}|{REFUSED})\{{(.*)\}} (\S+)")
LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')
FIELD = re.compile(r'(\w+)=("(?:\\.|[^"\\])*"|\S*)')
# A notification that was given up; where several integrations refuse it, one line has them all.
GIVEN_UP = re.compile(
    r"(?:^|; )(?P<receiver>[^;]+?)/(?P<integration>\w+)\[\d+\]: notify retry canceled .*?attempts: (?P<words>.*?)"
    r"(?=; [^;]+?/\w+\[\d+\]: notify retry canceled |$)",
    re.DOTALL,
)
WORDS = 300  # characters of what a provider says
PAGES = 5  # of metrics that are read at most until two are the same
LINES = 2000  # of a log, at most
MINUTE = 60.0  # seconds to which it is known when something was sent
# What a refusal is, by its words: the first that fits. The statuses of three digits are those of SMTP (RFC 5321, 4954).
CAUSES = (
    # Before all that may be a word in the name of a host.
    (r"no such host|connection refused|no route to host|network is unreachable", "its address is wrong, or nobody answers there"),
    (r"template|function \"\w+\" not defined", "its template fails"),
    (r"x509|tls: |STARTTLS|certificate", "no TLS connection"),
    (r"status code 429|rate.?limit|too many|\b4[25][012] ", "it is sent too much"),
    (
        r"status code 40[13]|\b53[0458] |auth|(routing|service) key|_token|token_(revoked|expired)|_inactive|missing_scope",
        "it refuses the credentials",
    ),
    (
        r"status code 4(04|10)|timeout|deadline|no such file|\b55[013] |no_service|channel_not_found|is_archived",
        "its address is wrong, or nobody answers there",
    ),
    (r"status code 5\d\d", "it has trouble of its own"),
)


class Key(NamedTuple):
    """Whose counters they are.

    :param receiver: its name; empty where Alertmanager counts by integration alone.
    :param integration: the kind of what it sends by, such as ``slack``.
    """

    receiver: str
    integration: str

    def __str__(self) -> str:
        return f"{bare(self.receiver)} ({self.integration})" if self.receiver else self.integration


@dataclass(frozen=True)
class Refusal:
    """A line of the log about a notification that was not taken; :param at: in seconds since 1970, 0 where it is not told."""

    key: Key
    at: float
    words: str

    def __str__(self) -> str:
        cause = next((said for pattern, said in CAUSES if re.search(pattern, self.words, re.IGNORECASE)), "it refuses")
        return f"{cause}: {self.words}"


def _bare_words(words: str) -> str:
    """What a provider says, without what may be a credential: the way below a host, and what somebody drew at random."""
    text = re.sub(r"(https?://[^/\s\"\\]+)/[^\s\"\\]+", rf"\1/{HIDDEN}", " ".join(words.split()))
    return re.sub(rf"(?<![\w-])(?:{RANDOM.pattern})(?![\w-])", HIDDEN, text)[:WORDS]


def _fields(line: str) -> dict[str, str]:
    """The fields of a line, whichever of Alertmanager's two formats it has."""
    if line.startswith("{"):
        try:
            return {key: str(value) for key, value in json.loads(line).items()}
        except (ValueError, AttributeError):
            return {}
    found = {}
    for key, value in FIELD.findall(line):
        try:
            found[key] = json.loads(value) if value.startswith('"') else value
        except ValueError:
            found[key] = value.strip('"')
    return found


def _moment(text: str) -> float:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def refusals(log: str) -> list[Refusal]:
    """The refusals in a log, in its order."""
    found = []
    for line in log.splitlines():
        fields = _fields(line) if "err" in line else {}
        error, at = fields.get("err", ""), _moment(fields.get("time") or fields.get("ts") or "")
        if fields.get("receiver") and fields.get("integration"):
            key = Key(fields["receiver"], fields["integration"].split("[")[0])
            found.append(Refusal(key, at, _bare_words(error)))
        else:
            found += [
                Refusal(Key(m["receiver"], m["integration"]), at, _bare_words(m["words"])) for m in GIVEN_UP.finditer(error)
            ]
    return found


def counted(page: str) -> dict[Key, tuple[float, float]]:
    """How many requests were sent, and how many of them failed, by Alertmanager's page of metrics."""
    found: dict[Key, dict[str, float]] = {}
    for line in page.splitlines():
        if match := SAMPLE.match(line):
            labels = {name: re.sub(r"\\(.)", r"\1", value) for name, value in LABEL.findall(match[2])}
            key = Key(labels.get("receiver_name", ""), labels.get("integration", ""))
            found.setdefault(key, {})[match[1]] = float(match[3])
    return {key: (values.get(SENT, 0.0), values.get(REFUSED, 0.0)) for key, values in found.items()}


def by_key(series: list[dict[str, Any]]) -> dict[Key, float]:
    """The values of series that Prometheus gives by receiver and integration."""
    return {
        Key(each["metric"].get("receiver_name", ""), each["metric"].get("integration", "")): float(each["value"][1])
        for each in series
    }


def read_log(stack: Stack, since: float) -> tuple[list[Refusal], str]:
    """The refusals in the logs of Alertmanager's pods, and why a log can't be read, or an empty text.

    :param since: how many seconds back.
    """
    found: list[Refusal] = []
    query = urlencode({"container": "alertmanager", "sinceSeconds": max(1, round(since)), "tailLines": LINES})
    try:
        for item in stack.alertmanagers():
            for pod in stack.pods_of(f"alertmanager={item['metadata']['name']}", stack.alerting):
                path = f"/api/v1/namespaces/{stack.alerting}/pods/{pod['metadata']['name']}/log?{query}"
                status, text = stack.run.cluster.fetch(path, {"Accept": "*/*"}, stack.run.request_seconds())
                if status != 200:
                    return found, f"Alertmanager's log can't be read ({status})"
                found += refusals(text)
    except ApiError as error:
        return found, f"Alertmanager's log can't be read ({error})"
    return sorted(found, key=lambda refusal: refusal.at), ""


def read_counters(stack: Stack, servers: list[Server]) -> dict[Key, tuple[float, float]]:
    """What all pods of Alertmanager have counted, together: how many requests, and how many of them failed.

    A request and its failure are counted one after the other, so a page is read until it says twice the same.

    :raises ApiError: where a pod gives no answer.
    """
    found = _read_counters(stack, servers)
    for _attempt in range(PAGES):
        again = _read_counters(stack, servers)
        if again == found:
            break
        found = again
    return found


def _read_counters(stack: Stack, servers: list[Server]) -> dict[Key, tuple[float, float]]:
    sums: dict[Key, tuple[float, float]] = {}
    for server in servers:
        status, page = stack.run.fetch(f"{server.api}/metrics", {"Accept": "text/plain"})
        if status != 200:
            raise ApiError(status, f"the metrics page of {server.pod or 'Alertmanager'} answers {status}")
        for key, (sent, failed) in counted(page).items():
            before = sums.get(key, (0.0, 0.0))
            sums[key] = before[0] + sent, before[1] + failed
    return sums


def concerns(receiver: str, namespace: str) -> bool:
    """Whether a receiver is the cluster's or the application's: the operator puts namespace and object before those of others."""
    parts = receiver.split("/")
    return len(parts) != 3 or parts[0] == namespace


def ago(seconds: float) -> str:
    """How long ago something was, in the largest unit that tells it."""
    unit, name = next(((size, unit) for size, unit in ((86400, "d"), (3600, "h"), (60, "min")) if seconds >= size), (1, "s"))
    return f"{seconds / unit:.0f} {name} ago"


@dataclass
class Deliveries:
    """When receivers refused last and when they took something last, in seconds since 1970.

    :param known: those that Alertmanager has now. :param gave_up: when the last notification was given up.
    """

    known: set[Key]
    failed: dict[Key, float]
    took: dict[Key, float]
    gave_up: dict[Key, float]

    @property
    def by_name(self) -> bool:
        return any(key.receiver for key in self.known)

    def broken(self, namespace: str) -> list[Key]:
        """Those that refused after they took something last."""
        return sorted(
            key for key in self.known if concerns(key.receiver, namespace) and self.failed.get(key, 0.0) > self.took.get(key, 0.0)
        )

    def partly(self, namespace: str) -> list[Key]:
        """Those of which the last notification was given up and taken, as by two integrations of a type."""
        found = set(self.gave_up) & set(self.took) & self.known - set(self.broken(namespace))
        return sorted(
            key
            for key in found
            if key.receiver and concerns(key.receiver, namespace) and self.gave_up[key] > self.took[key] - MINUTE
        )

    def notifying(self, namespace: str) -> list[Key]:
        """Those that would notify somebody."""
        named = [key for key in self.known if key.receiver and bare(key.receiver) not in NOBODY]
        return sorted(key for key in named if concerns(key.receiver, namespace))
