# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What expressions say of their results; a real Prometheus, with series, says what is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify import promql

from tests.prometheus import Prometheus, running

SERIES = [
    *(f'web{{namespace="shop",job="web",pod="web-{n}",status="{s}"}} {n + 1}' for n in (0, 1) for s in ("200", "500")),
    *(f'up{{namespace="shop",job="web",pod="web-{n}",instance="10.0.0.{n}:9"}} 1' for n in (0, 1)),
    *(f'took_bucket{{namespace="shop",job="web",pod="web-0",le="{le}"}} {n}' for le, n in (("0.1", 1), ("1", 2), ("+Inf", 3))),
    'owner{namespace="shop",pod="web-0",node="n1"} 1',
    'owner{namespace="shop",pod="web-1",node="n2"} 1',
]
# An expression, the labels that are known, those that are there with values that nobody knows, and whether others may be.
CASES: list[tuple[str, dict[str, str], set[str], bool]] = [
    ('web{namespace="shop", job="web"}', {"namespace": "shop", "job": "web"}, set(), True),
    ('rate(web{namespace="shop"}[2m]) >= 0', {"namespace": "shop"}, set(), True),
    ('sum(rate(web{namespace="shop"}[2m])) >= 0', {}, set(), False),
    ('sum by (namespace, pod) (web{namespace="shop"}) > 0', {"namespace": "shop"}, {"pod"}, False),
    ('sum without (pod, status) (web{namespace="shop", pod="web-0"}) > 0', {"namespace": "shop"}, set(), True),
    ('absent(nothing{namespace="shop", job=~"a|b"})', {"namespace": "shop"}, set(), False),
    ('sum by (job) (web{job="web"}) / sum by (job) (web) > 0', {"job": "web"}, set(), False),
    ('web{status="500"} / ignoring (status) group_left () sum without (status) (web)', {"status": "500"}, set(), True),
    ('owner{namespace="shop"} * on (pod) group_left (job) up{job="web"}', {"namespace": "shop", "job": "web"}, set(), True),
    ('sum by (pod) (web) * on (pod) group_right () owner{namespace="shop"}', {"namespace": "shop"}, set(), True),
    ('up{job="web"} == 1 and on (namespace) web{status="500"}', {"job": "web"}, set(), True),
    ('up{job="web", namespace="shop"} or owner{namespace="shop"}', {"namespace": "shop"}, {"job"}, True),
    (
        'histogram_quantile(0.95, sum by (namespace, job, le) (rate(took_bucket{namespace="shop"}[2m]))) >= 0 or vector(0)',
        {},
        {"namespace", "job"},
        False,
    ),
    ('label_replace(up{job="web"}, "node", "x", "", "")', {"job": "web"}, {"node"}, True),
    ('topk(1, web{job="web"})', {"job": "web"}, set(), True),
    ('max_over_time(up{job="web"}[2m:30s]) > 0', {"job": "web"}, set(), True),
    ('count_values by (job) ("version", web{job="web"})', {"job": "web"}, {"version"}, False),
    ('1 < up{job="web"} or (up{job="web"} > bool 0)', {"job": "web"}, set(), True),
    ("vector(1) > 0", {}, set(), False),
    ('time() - up{job="web"} > 0', {"job": "web"}, set(), True),
    ('(up{job="web"}) unless up{job="other"}', {"job": "web"}, set(), True),
]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running(tmp_path_factory.mktemp("prometheus"), SERIES) as found:
        yield found


@pytest.mark.parametrize(("expr", "known", "named", "others"), CASES, ids=[case[0] for case in CASES])
def test_labels(prometheus: Prometheus, expr: str, known: dict[str, str], named: set[str], others: bool) -> None:
    found = promql.labels(prometheus.get("/api/v1/parse_query", query=expr))
    assert found.known == {**known, **dict.fromkeys(named)}
    assert found.open is others
    result = prometheus.get("/api/v1/query", query=expr)["result"]
    assert result, "the case has no series to compare with"
    for series in result:
        labels = {name: value for name, value in series["metric"].items() if name != "__name__"}
        assert known.items() <= labels.items()
        assert others or labels.keys() <= found.known.keys()
