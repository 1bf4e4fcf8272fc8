# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The row of the receivers: last refusal against last success, by a real Prometheus with days of counters and lines of a log."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify import deliveries
from ansible_collections.flaskops.observability.plugins.module_utils.verify.deliveries import Key, refusals
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import receivers
from ansible_collections.flaskops.observability.plugins.module_utils.verify.result import Result
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Run, Target

from tests.alertmanager import FEATURE, SERVICES, Api
from tests.prometheus import Prometheus, running

from .test_verify_stack import ALERTMANAGER, LOADED, PROMETHEUS, TEST_RULE, FakeStack, data, group

MINUTE, HOUR = 60, 3600
STEP, FIRST = 30, 33 * HOUR  # seconds from scrape to scrape, and how long ago the first one was
INBOX = range(0, 32 * HOUR, 5 * MINUTE)  # the schedule sends it something every five minutes
Ages = list[int]
# By the stack: receiver and integration, and how many seconds ago they refused and took something.
STACKS: dict[str, dict[tuple[str, str], tuple[Ages, Ages]]] = {
    "new": {("alert-inbox", "webhook"): ([], list(INBOX)), ("team", "webhook"): ([9 * MINUTE, 4 * MINUTE], [20 * HOUR])},
    "old": {("alert-inbox", "webhook"): ([], list(INBOX)), ("team", "webhook"): ([31 * HOUR, 30 * HOUR], [])},
    "mended": {("team", "slack"): ([6 * HOUR, 5 * HOUR], [4 * HOUR]), ("mail", "email"): ([], [HOUR])},
    "attempts": {("team", "slack"): ([HOUR], [HOUR])},
    "untried": {("alert-inbox", "webhook"): ([], list(INBOX)), ("team", "webhook"): ([], [])},
    "fresh": {("alert-inbox", "webhook"): ([], [])},
    "partly": {("team", "webhook"): ([], [HOUR]), ("pager", "pagerduty"): ([], [])},
    "shared": {
        ("shop/shop/team", "slack"): ([HOUR], []),
        ("web/web/mail", "email"): ([2 * HOUR], []),
        ("team", "slack"): ([], [HOUR]),
    },
    # Of two integrations of each one refuses what the other one takes, and one gives nothing up.
    "twins": {("team", "webhook"): ([4 * MINUTE], [4 * MINUTE]), ("pair", "webhook"): ([HOUR], [HOUR, MINUTE])},
    "alone": {("mail", "webhook"): ([4 * MINUTE], [4 * MINUTE])},
    "unnamed": {("", "webhook"): ([4 * MINUTE], list(INBOX))},
    "quiet": {("", "webhook"): ([HOUR], list(INBOX)), ("", "slack"): ([], [])},
    "one kind": {("", "slack"): ([2 * HOUR], [4 * HOUR])},
}
RESTARTED = 3 * HOUR  # Alertmanager of the stack "old" read a new configuration then, and counts from 0


GAVE_UP = "alertmanager_notifications_failed_total"  # what "attempts" does not: it takes the second one
HOOKS = {"team": 2, "pair": 2, "mail": 1}
CONFIG = {"receivers": [{"name": name, "webhook_configs": [{}] * count} for name, count in HOOKS.items()]}


class Loaded(Api):
    """An Alertmanager with these receivers."""

    def fetch(self, path: str, headers: Any = None, seconds: float = 0) -> tuple[int, str]:
        if path.endswith("/api/v2/status"):
            return 200, json.dumps({"config": {"original": json.dumps(CONFIG)}})
        return super().fetch(path, headers, seconds)


def samples(now: int) -> Iterator[str]:
    for name in ("alertmanager_notification_requests_total", "alertmanager_notification_requests_failed_total", GAVE_UP):
        for stack, found in STACKS.items():
            for (receiver, kind), (refused, took) in found.items():
                failed = [] if name == GAVE_UP and stack == "attempts" else refused
                ages = sorted(failed if "failed" in name else [*refused, *took], reverse=True)
                labels = f'namespace="{stack}",integration="{kind}"' + (f',receiver_name="{receiver}"' if receiver else "")
                for back in range(FIRST, -1, -STEP):
                    begin = RESTARTED if stack == "old" and back <= RESTARTED else FIRST
                    yield f"{name}{{{labels}}} {sum(back <= age < begin for age in ages)} {now - back}"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running(tmp_path_factory.mktemp("prometheus"), [], samples=list(samples(int(time.time())))) as found:
        yield found


def line(age: float, error: str) -> str:
    at = datetime.datetime.fromtimestamp(time.time() - age, datetime.UTC).isoformat().replace("+00:00", "Z")
    what = 'msg="Notify for alerts failed" component=dispatcher num_alerts=1'
    return f"time={at} level=ERROR source=dispatch.go:360 {what} err={json.dumps(error)}"


def given_up(receiver: str, kind: str, words: str) -> str:
    return f"{receiver}/{kind}[0]: notify retry canceled due to unrecoverable error after 1 attempts: {words}"


def look(prometheus: Prometheus, folder: Path, stack: str, *lines: str) -> Result:
    (folder / "log").write_text("\n".join(lines))
    api = Loaded({"prometheus-operated:9090": prometheus.url}, folder / "log")
    run = Run(api, Target(namespace="web", name="web"))  # type: ignore[arg-type]
    run.stack.absent, run.stack.namespace = "", stack
    run.stack.server, run.stack.api = {"spec": {}}, f"{SERVICES}prometheus-operated:9090/proxy"
    (found,) = receivers.look(run)
    return found


REVOKED = given_up("team", "webhook", "unexpected status code 404: no such hook")
# The stack, the lines of the log with their age, and what the row says.
CASES: dict[str, tuple[str, list[tuple[float, str]], str, list[str]]] = {
    "a broken one beside a working one": (
        "new",
        [(240, REVOKED)],
        "failed",
        ["team (webhook) failed 4 min ago", "no such hook"],
    ),
    "nothing fired since, over a restart": ("old", [], "failed", ["team (webhook) failed 1 d ago"]),
    "the log says no more": ("new", [(HOUR, REVOKED)], "failed", ["team (webhook) failed 4 min ago"]),
    "it works again": ("mended", [], "ok", ["2 took something"]),
    "the second attempt is taken": ("attempts", [], "ok", []),
    "one of two in a receiver": (
        "twins",
        [(240, given_up("team", "webhook", "unexpected status code 404: no such hook"))],
        "failed",
        ["one of 2 integrations of team (webhook) failed 4 min ago", "no such hook"],
    ),
    "one of two in a receiver, without words": ("twins", [], "failed", ["one of 2 integrations of team (webhook)"]),
    "the only one was given up and took at once": ("alone", [], "ok", []),
    "nobody was sent anything": ("untried", [], "skipped", ["team (webhook)", "verify_receivers"]),
    "a cluster that is new": ("fresh", [], "ok", ["none has had anything to take yet"]),
    "one was sent nothing": ("partly", [], "ok", ["not tried: pager (pagerduty)"]),
    "those of other applications": ("shared", [], "failed", ["mail (email) failed 2 h ago"]),
    "counted by integration, and named by the log": (
        "unnamed",
        [(240, REVOKED)],
        "failed",
        ["team (webhook) failed", FEATURE],
    ),
    "counted by integration, long ago": ("quiet", [(HOUR, REVOKED)], "ok", [FEATURE]),
    "a whole integration": ("one kind", [], "failed", ["slack failed 2 h ago", FEATURE]),
}


@pytest.mark.parametrize(("stack", "lines", "status", "words"), CASES.values(), ids=CASES)
def test_who_refused_last(
    prometheus: Prometheus, tmp_path: Path, stack: str, lines: list[tuple[float, str]], status: str, words: list[str]
) -> None:
    found = look(prometheus, tmp_path, stack, *(line(age, error) for age, error in lines))
    text = f"{found.evidence} {found.cause}"
    assert found.status == status and [word for word in words if word not in text] == []
    assert status != "failed" or (found.cause.count("failed") == 1 and found.next_command.startswith("kubectl "))


SHARED = """\
route:
  receiver: team
  routes:
    - matchers: [namespace="web"]
      receiver: other
    - matchers: [node="broken"]
      receiver: other
    - matchers: [alertname="FlaskopsVerify"]
      receiver: alert-inbox
receivers: [{name: team, slack_configs: [{}]}, {name: other, slack_configs: [{}]}, {name: alert-inbox, webhook_configs: [{}]}]
"""
SCOPED = {**LOADED, "labels": {"severity": "critical", "namespace": "flask-app"}}
STACK_RULE = group([{**LOADED, "name": "NodeDown", "query": "kube"}], "nodes", "stack")
STACK_RULE["file"] = "/etc/prometheus/rules/monitoring-stack-nodes-1234.yaml"


class Shared(FakeStack):
    """An Alertmanager whose receiver of another team refuses what it is sent."""

    def told(self, expr: str) -> list[dict[str, Any]]:
        found, refused = super().told(expr), "max_over_time" in expr and "requests_total" not in expr
        if "max_over_time" in expr and not (refused and "other" in self.refusing):
            return found
        return [*found, {"metric": {"receiver_name": "other", "integration": "slack"}, "value": [0, str(time.time() - 30)]}]

    @staticmethod
    def parsed(expr: str) -> Any:
        return {"type": "aggregation", "op": "sum", "grouping": [] if expr == "up" else ["node"], "expr": FakeStack.parsed(expr)}


@pytest.mark.parametrize(
    ("refusing", "promised", "status", "words"),
    [
        (("other",), "", "ok", "of others, which no alert of ours reaches, other (slack) failed"),
        # An alert of the stack may have the label that leads there, which is the product's where a run has promised the stack.
        (("other",), "kube_prometheus_stack.monitoring.stack", "failed", "other (slack) failed"),
        (("other",), "app_monitoring.web.web", "ok", "other (slack)"),
        (("other", "team"), "", "failed", "team (slack) failed"),
        (("other", "alert-inbox"), "", "failed", "alert-inbox (webhook) failed"),
    ],
)
def test_a_receiver_that_no_alert_of_ours_reaches(
    monkeypatch: pytest.MonkeyPatch, refusing: tuple[str, ...], promised: str, status: str, words: str
) -> None:
    groups = [group([SCOPED]), group([TEST_RULE], "test", "test"), STACK_RULE]
    maps = [{"metadata": {"name": "promise", "labels": {"flaskops/owner": promised}}, "data": {}}] if promised else []
    cluster = Shared(
        **{
            f"{ALERTMANAGER}/status": (200, {"config": {"original": SHARED}}),
            f"{PROMETHEUS}/rules": data(groups=groups),
            "/api/v1/configmaps": (200, {"items": maps}),
        }
    )
    monkeypatch.setattr(Run, "settled", lambda _self, look, _seconds=None: look())
    cluster.refusing = refusing
    run = Run(cluster, Target(timeout=3))
    run.prepare()
    run.stack.find()
    (found,) = receivers.look(run)
    assert found.status == status and words in f"{found.evidence} {found.cause}"
    assert "other" not in found.cause or promised.startswith("kube_")


WARNING = (
    'time=2026-11-29T12:00:00Z level=WARN source=notify.go:866 msg="Notify attempt failed, will retry later" component=dispatcher'
    ' receiver=team integration=email[0] aggrGroup="{}" attempts=1 err="*smtp.plainAuth auth: 535 5.7.8 no"'
)
BOTH = f"{given_up('a/b/team', 'slack', 'unexpected status code 403: invalid_token')}; {given_up('a/b/team', 'email', 'dial')}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (WARNING, [(Key("team", "email"), "*smtp.plainAuth auth: 535 5.7.8 no")]),
        (
            line(0, BOTH),
            [(Key("a/b/team", "slack"), "unexpected status code 403: invalid_token"), (Key("a/b/team", "email"), "dial")],
        ),
        (
            json.dumps({"time": "2026-11-29T12:00:00Z", "receiver": "team", "integration": "slack[1]", "err": "x"}),
            [(Key("team", "slack"), "x")],
        ),
        (line(0, "team/slack[0]: notify retry canceled after 9 attempts: Post: EOF"), [(Key("team", "slack"), "Post: EOF")]),
        ('level=info msg="Loading configuration file"', []),
        ('{"err": ', []),
    ],
)
def test_lines_of_the_log(text: str, wanted: list[Any]) -> None:
    assert [(each.key, each.words) for each in refusals(text)] == wanted


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("dial tcp: lookup auth.mail.test: no such host", "address"),
        ('Post "https://templates.test/x": dial tcp 10.0.0.9:443: connect: no route to host', "address"),
        ("establish TLS: x509: certificate signed by unknown authority", "no TLS"),
        ("530 5.7.0 Must issue a STARTTLS command first", "no TLS"),
        ("unsuccessful error message from Slack: token_revoked", "credentials"),
        ("unsuccessful error message from Slack: account_inactive", "credentials"),
        ("unexpected status code 400: Service key is invalid", "credentials"),
        ("unexpected status code 404: channel_is_archived", "address"),
        ("unsuccessful error message from Slack: is_archived", "address"),
        ("unsuccessful error message from Slack: ratelimited", "too much"),
        ("context deadline exceeded", "address"),
        ("unexpected status code 422: Key format is not valid!", "it refuses"),
    ],
)
def test_what_is_wrong_by_the_words_of_who_refused(words: str, cause: str) -> None:
    (found,) = refusals(line(0, given_up("team", "slack", words)))
    assert cause in str(found).split(": ")[0]


@pytest.mark.parametrize(
    "words",
    [
        'Post "https://hooks.test/services/T0/B0/secret": EOF',
        "Invalid routing key 0123456789abcdef0123456789abcdef",
        "no channel aBcDeFgHiJ0123secret",
    ],
)
def test_the_words_of_a_provider_show_no_credential(words: str) -> None:
    (found,) = refusals(line(0, given_up("team", "slack", words)))
    assert "secret" not in found.words and "0123" not in found.words and deliveries.HIDDEN in found.words


@pytest.mark.parametrize(
    ("seconds", "said"), [(59, "59 s ago"), (61, "1 min ago"), (3 * HOUR, "3 h ago"), (50 * HOUR, "2 d ago")]
)
def test_ago(seconds: float, said: str) -> None:
    assert deliveries.ago(seconds) == said
