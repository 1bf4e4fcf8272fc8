# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules as a real Prometheus says that it evaluates them, against the objects that they come from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import rules as written
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import rules

from tests.prometheus import Prometheus, running

OPTIONS: dict[str, Any] = {"name": "web", "namespace": "shop", "slo": 0.999, "slo_latency": 0.99}
# What Prometheus prints in another way than it was written.
OTHERS = [
    'sum(rate(a{z="1", b=~"x|y", z!="2"}[5m])) by (job) > bool 1',
    "sum without(pod)(a) / on(job) group_left(node) b > 0x10",
    '{__name__="a", pod!~".+-[0-9]+"} offset 1h30m == 1e3',
    "max_over_time((sum(a))[1h:]) unless (absent(b)) or -a",
    "label_replace(a, 'node', \"$1\\n\", 'pod', `(.+)`) # why",
    "a @ 1609746000 + histogram_quantile(.95, sum by (le,) (rate(a_bucket[1m])))",
]
GROUPS = {
    "web": written.rule_groups({**OPTIONS, "alerts": {"LogSilence": {"enabled": True}}}),
    "literal": written.rule_groups({**OPTIONS, "literal_error_rate": True}),
    "verify": written.verify_rule_groups("web", "shop", 300, {}),
    "others": [{"name": "others", "rules": [{"record": f"other:{n}", "expr": expr} for n, expr in enumerate(OTHERS)]}],
}
OBJECTS = [{"metadata": {"namespace": "shop", "name": name}, "spec": {"groups": groups}} for name, groups in GROUPS.items()]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    files = {f"shop-{name}-uid.yaml": groups for name, groups in GROUPS.items()}
    with running(tmp_path_factory.mktemp("prometheus"), ["up 1"], files) as found:
        yield found


def problems(prometheus: Prometheus, objects: list[dict[str, Any]]) -> list[str]:
    def same(one: str, other: str) -> bool:
        trees = [rules.plain(prometheus.get("/api/v1/parse_query", query=expr)) for expr in (one, other)]
        return bool(trees[0] == trees[1])

    groups = prometheus.get("/api/v1/rules")["groups"]
    # A rule that was not evaluated yet is late, which is another matter.
    return [text for text in rules.judge(objects, groups, same)[0] if "another" in text or "loaded" in text]


def test_every_rule_is_the_one_that_was_written(prometheus: Prometheus) -> None:
    assert problems(prometheus, OBJECTS) == []


def test_every_rule_that_was_written_otherwise_is_named(prometheus: Prometheus) -> None:
    changed = copy.deepcopy(OBJECTS)
    names = []
    for item in changed:
        for group in item["spec"]["groups"]:
            for rule in group["rules"]:
                names.append(rule.get("alert") or rule["record"])
                rule["expr"] = f"({rule['expr'].partition('#')[0]}) * 2"
    found = problems(prometheus, changed)
    assert [text.split()[0] for text in found] == names
    assert all("another expr than" in text for text in found)


@pytest.mark.parametrize(
    ("expr", "other"),
    [
        (OTHERS[0], 'sum(rate(a{z="1", b=~"x|y", z!="3"}[5m])) by (job) > bool 1'),
        (OTHERS[0], 'sum(rate(a{z="1", b=~"x|y", z!="2"}[6m])) by (job) > bool 1'),
        (OTHERS[0], 'sum(rate(a{z="1", b=~"x|y", z!="2"}[5m])) by (pod) > bool 1'),
        (OTHERS[1], "sum without(pod)(a) / on(job) group_left(node) b > 17"),
        (OTHERS[2], '{__name__="a", pod!~".+-[0-9]+"} offset 1h == 1e3'),
    ],
)
def test_a_small_difference_is_one(prometheus: Prometheus, expr: str, other: str) -> None:
    item = {"metadata": {"namespace": "shop", "name": "others"}, "spec": {"groups": copy.deepcopy(GROUPS["others"])}}
    item["spec"]["groups"][0]["rules"][OTHERS.index(expr)]["expr"] = other
    assert problems(prometheus, [item]) == [
        f"other:{OTHERS.index(expr)} is evaluated with another expr than its PrometheusRule has"
    ]
