# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link of Loki and that of its ruler, with the stand-in behind the API server's proxy and a log agent that sends to it."""

from __future__ import annotations

import copy
import json
import re
import threading
import time
import urllib.error
import urllib.request

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import ruler

from tests.fakes.loki import Loki

from .test_verify_checks import slices
from .test_verify_links import LOKI, SLICES, STREAM, FakeCluster, run, shipper

PROXY = "/api/v1/namespaces/logs/services/loki:3100/proxy"
RULE = {"alert": "Mine", "expr": 'count_over_time({app="flask-app"}[5m]) > 0'}
MAPS = "/api/v1/namespaces/logs/configmaps"


class Cluster(FakeCluster):
    """Hands on what goes to Loki; its log agent sends the line of a marked request until it is taken or refused permanently."""

    def __init__(self, loki, tenant="", agent=True, age=0.0, **changes):
        super().__init__(LOKI, **changes)
        self.loki, self.tenant, self.agent, self.age = loki, tenant, agent, age
        self.done = threading.Event()

    def fetch(self, path, headers=None, seconds=10):
        if path.startswith(PROXY):
            return request(self.loki.url + path.removeprefix(PROXY), headers=headers)
        marked = (headers or {}).get("X-Request-ID")
        if marked and self.agent:
            threading.Thread(target=self.ship, args=(marked,), daemon=True).start()
        return super().fetch(path, headers, seconds)

    def ship(self, marked):
        headers = {"Content-Type": "application/json", **({"X-Scope-OrgID": self.tenant} if self.tenant else {})}
        line = json.dumps({"request_id": marked})
        values = [[str(int((time.time() - self.age) * 1e9)), line, {"request_id": marked}]]
        body = json.dumps({"streams": [{"stream": STREAM, "values": values}]}).encode()
        status = 0
        # As Fluent Bit: 204 is taken, 400 is permanently refused.
        while status not in (204, 400) and not self.done.wait(0.3):
            status, _text = request(f"{self.loki.url}/loki/api/v1/push", body, headers)


def request(url, body=None, headers=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def loki():
    with Loki() as found:
        found.groups = [{"name": "log-lines", "interval": 30, "rules": [RULE]}]
        yield found


def verified(cluster, link="loki", **options):
    try:
        found, _url = run(cluster, **options)
    finally:
        cluster.done.set()
    return found[link]


def test_the_line_is_found(loki):
    found = verified(Cluster(loki))
    assert (found["status"], found["cause"]) == ("ok", "")


@pytest.mark.parametrize(
    ("switches", "agent", "said"),
    [
        ({"ready": False}, {}, ["not ready", "503", "Ingester not ready"]),
        ({"limited": True}, {}, ["requests with 429", "rate_limited"]),
        ({}, {"age": 200 * 3600}, ["3 requests with 400", "3 lines because of greater_than_max_sample_age"]),
        ({"max_line": 10}, {}, ["3 requests with 400", "3 lines because of line_too_long"]),
        ({"auth": True}, {}, ["401", "no org id", "verify_log_backends"]),
    ],
    ids=["unready", "429", "400-old", "400-long", "no-tenant"],
)
def test_what_is_wrong_with_loki_is_named(loki, switches, agent, said):
    loki.set(**switches)
    found = verified(Cluster(loki, **agent))
    assert found["status"] == "failed"
    assert [word for word in said if word not in found["cause"]] == []


def test_what_was_refused_before_is_not_the_cause(loki):
    """Nor what another process counted, such as a second replica."""
    loki.discarded["fake", "rate_limited"] = 7
    loki.answers["POST", "loki_api_v1_push", 429] = 7
    found = verified(Cluster(loki, agent=False))
    # The line's random mark may have these digits too.
    assert "it is not sent, or not taken" in found["cause"] and not re.search(r"\b429\b", found["cause"])


def test_another_process_is_not_compared(loki, monkeypatch):
    loki.set(limited=True)
    page = loki._metrics
    # One that began at another time at each look.
    monkeypatch.setattr(loki, "_metrics", lambda: setattr(loki, "began", loki.began + 1) or page())
    assert "it is not sent, or not taken" in verified(Cluster(loki))["cause"]


AGENT = "/apis/apps/v1/daemonsets"


@pytest.mark.parametrize(
    ("sent", "asked", "said"),
    [
        ("shop", "shop", ""),
        ("shop", "other", "the tenant that is asked is other, and fluent-bit sends to shop"),
        ("", "shop", "fluent-bit sends to none; Loki refuses what is sent to it: "),
        ("shop", "", "answered 401"),
    ],
    ids=["right", "wrong", "agent-without", "verify-without"],
)
def test_a_wrong_tenant_is_named(loki, sent, asked, said):
    """Of the log agent, or of verify: only with a tenant of its own can verify ask such a Loki."""
    loki.set(auth=True)
    item = shipper(desiredNumberScheduled=0)
    outputs = [{"type": "loki", "host": "loki", **({"tenant": sent} if sent else {})}]
    item["metadata"]["annotations"] = {"flaskops/outputs": json.dumps(outputs)}
    cluster = Cluster(loki, tenant=sent, **{AGENT: (200, {"items": [item]})})
    found = verified(cluster, log_backends=[{"type": "loki", "url": loki.url, "tenant": asked}])
    assert found["status"] == ("failed" if said else "ok")
    assert said in found["cause"]
    assert sent or "requests with 401" in found["cause"]


MINE = {MAPS: (200, {"items": [{"metadata": {"name": "rules", "annotations": {"flaskops/alerts": "Mine"}}}]})}


@pytest.mark.parametrize(
    ("switches", "said"),
    [
        ({}, ""),
        ({"ruler": False}, "runs no ruler"),
        ({"rule_error": "parse error"}, "Mine: parse error"),
        ({"evaluated": 3600}, "was last evaluated"),
        ({"alertmanager": "''"}, "has no Alertmanager"),
    ],
    ids=["well", "gone", "error", "late", "no-alertmanager"],
)
def test_the_ruler_of_one_s_own_rules(loki, switches, said):
    loki.set(**{"alertmanager": "http://am.monitoring.svc:9093", **switches})
    cluster = Cluster(loki, **MINE, **{SLICES.format("monitoring"): (200, {"items": slices("am-0")})})
    found = verified(cluster, "ruler")
    assert found["status"] == ("failed" if said else "ok")
    assert said in found["cause"]


WRITTEN = {
    "alert": "Mine",
    "expr": 'sum by (level) (count_over_time({app="shop"} |~ `a\\d+` [60m])) > 5',
    "for": "1m",
    "labels": {"severity": "critical"},
}
# As Loki writes it.
EVALUATED = {
    "name": "Mine",
    "query": '(sum by (level)(count_over_time({app="shop"} |~ "a\\\\d+"[1h])) > 5)',
    "duration": 60,
    "labels": {"severity": "critical", "more": "x"},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"query": EVALUATED["query"].replace("> 5", "> 500")}, ["another expr"]),
        ({"query": EVALUATED["query"].replace("shop", "other")}, ["another expr"]),
        ({"duration": 86400, "labels": {}}, ["another for and labels"]),
        ({"name": "Theirs", "duration": 5}, []),
    ],
)
def test_a_rule_of_the_ruler_that_is_evaluated_otherwise(change, said):
    found = ruler.otherwise([WRITTEN], [{**EVALUATED, **change}])
    assert len(found) == len(said) and all(word in text for word, text in zip(said, found, strict=True))


def test_sums_of_numbers_are_loki_s():
    assert not ruler.other_expr('count_over_time({a="b"}[5m]) > 60 * 5', '(count_over_time({a="b"}[5m]) > 300)')


def test_what_was_written_is_held_against_the_ruler(loki):
    loki.set(alertmanager="http://am.monitoring.svc:9093")
    item = copy.deepcopy(MINE[MAPS][1]["items"][0])
    item["data"] = {
        "rules.yaml": json.dumps({"groups": [{"name": "log-lines", "rules": [{**RULE, "labels": {"severity": "x"}}]}]})
    }
    cluster = Cluster(loki, **{MAPS: (200, {"items": [item]}), SLICES.format("monitoring"): (200, {"items": slices("am-0")})})
    found = verified(cluster, "ruler")
    assert (found["status"], "another labels" in found["cause"]) == ("failed", True)


def test_a_ruler_that_nobody_needs_is_not_missed(loki):
    """The alerts about lines are rules of Prometheus; Loki's ruler is read for rules of one's own only."""
    loki.set(ruler=False)
    results, _url = run(Cluster(loki, **{MAPS: (200, {"items": []})}))
    assert "ruler" not in results and results["loki"]["status"] == "ok"
    assert not [route for _method, route, _status in loki.answers if "rules" in route]
