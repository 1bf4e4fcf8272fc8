# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in of Loki does what Loki's documentation says of its API."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.fakes import loki as program
from tests.fakes.loki import Loki

STREAM = {"namespace": "shop", "app": "web", "level": "info"}
WEB = '{app="web"}'
METADATA = {"pod": "web-1", "request_id": "r-1"}


@pytest.fixture
def loki() -> Iterator[Loki]:
    with Loki() as found:
        yield found


def ask(loki: Loki, path: str, body: Any = None, kind: str = "application/json", **headers: str) -> tuple[int, str]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(loki.url + path, data, headers if data is not None else {**headers, "Content-Type": ""})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()


def push(
    loki: Loki, *texts: str, at: float | None = None, labels: dict[str, str] = STREAM, metadata: Any = METADATA, **headers: str
) -> tuple[int, str]:
    moment = int((time.time() if at is None else at) * 1e9)
    values = [[str(moment + n), text, metadata] for n, text in enumerate(texts)]
    return ask(loki, "/loki/api/v1/push", {"streams": [{"stream": labels, "values": values}]}, **headers)


def query(loki: Loki, text: str, path: str = "query_range", **more: Any) -> Any:
    status, answer = ask(loki, f"/loki/api/v1/{path}?{urlencode({'query': text, **more})}")
    assert status == 200, answer
    return json.loads(answer)["data"]["result"]


def test_a_line_comes_back_with_its_labels_and_metadata(loki: Loki) -> None:
    assert push(loki, "hello", at=time.time()) == (204, "")
    (stream,) = query(loki, '{namespace="shop",app=~"we.|api"} |= "hell"')
    assert stream["stream"] == {**STREAM, **METADATA} and [text for _, text in stream["values"]] == ["hello"]
    body = {"streams": [{"stream": STREAM, "values": [[str(time.time_ns()), "packed"]]}]}
    packed = gzip.compress(json.dumps(body).encode())
    assert ask(loki, "/loki/api/v1/push", packed, Content_Encoding="gzip")[0] == 204
    assert query(loki, '{app="web"} |= "packed"')[0]["stream"] == STREAM


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{app="web"}', 3),
        ('{app!="web", namespace="shop"}', 0),
        ('{app=~"w"}', 0),
        ('{app="web"} != "slow"', 2),
        ('{app="web"} |~ "s.ow"', 1),
        ('{app="web"} | request_id="r-1"', 3),
        ("{app=`web`} | request_id=`r-2`", 0),
        ('{app="web"} | json | size="20"', 1),
        ('{app="web"} |= "s" | json | message=~"sl.*"', 1),
    ],
)
def test_queries(loki: Loki, text: str, found: int) -> None:
    push(loki, "plain", json.dumps({"message": "slow", "size": 20}), json.dumps({"message": "fast", "size": 3}))
    assert sum(len(stream["values"]) for stream in query(loki, text)) == found
    counted = query(loki, f"sum(count_over_time({text}[1h]))", "query")
    assert [value["value"][1] for value in counted] == ([str(found)] if found else [])


def test_limit_direction_and_period(loki: Loki) -> None:
    begin = time.time() - 600
    for n in range(3):
        push(loki, f"line {n}", at=begin + n * 60)
    assert query(loki, '{app="web"}', limit=1)[0]["values"][0][1] == "line 2"
    assert query(loki, '{app="web"}', limit=1, direction="forward")[0]["values"][0][1] == "line 0"
    assert len(query(loki, '{app="web"}', since="590s")[0]["values"]) == 2
    assert len(query(loki, '{app="web"}', start=int(begin * 1e9), end=int((begin + 60) * 1e9))[0]["values"]) == 1
    assert query(loki, 'sum by (level) (count_over_time({app="web"}[1h]))', "query")[0]["metric"] == {"level": "info"}
    assert json.loads(ask(loki, "/loki/api/v1/labels")[1])["data"] == ["app", "level", "namespace"]
    assert json.loads(ask(loki, "/loki/api/v1/label/app/values")[1])["data"] == ["web"]
    assert json.loads(ask(loki, "/loki/api/v1/series?match[]=%7Bapp%3D%22web%22%7D")[1])["data"] == [STREAM]


@pytest.mark.parametrize("text", ["{}", '{app=""}', '{app=~".*"}', '{app="web"', '{app="web"} |', '{app=~"("}', "app"])
def test_wrong_queries_are_refused(loki: Loki, text: str) -> None:
    assert ask(loki, f"/loki/api/v1/query_range?{urlencode({'query': text})}")[0] == 400


def test_too_many_lines_are_not_given(loki: Loki) -> None:
    assert ask(loki, f"/loki/api/v1/query_range?{urlencode({'query': WEB, 'limit': 5001})}")[0] == 400


def test_a_line_is_kept_once(loki: Loki) -> None:
    now = time.time()
    for _ in range(3):
        push(loki, "same", at=now)
    push(loki, "same", at=now + 1)
    push(loki, "same", at=now, labels={**STREAM, "level": "error"})
    assert loki.lines() == ["same"] * 3


@pytest.mark.parametrize(
    ("pushed", "reason"),
    [
        ({"at": time.time() - 169 * 3600}, "greater_than_max_sample_age"),
        ({"at": time.time() + 3600}, "too_far_in_future"),
        ({"labels": {}}, "missing_labels"),
        ({"labels": {"a-b": "c"}}, "invalid_labels"),
    ],
)
def test_what_loki_refuses(loki: Loki, pushed: dict[str, Any], reason: str) -> None:
    status, _text = push(loki, "x", **pushed)
    assert status == 400 and loki.lines() == []
    assert f'loki_discarded_samples_total{{reason="{reason}",tenant="fake"}} 1' in ask(loki, "/metrics")[1]


def test_a_line_that_is_too_long_costs_no_other(loki: Loki) -> None:
    status, text = push(loki, "a" * (2 << 20), "b" * ((2 << 20) + 1))
    assert status == 400 and "max entry size" in text
    assert [line[0] for line in loki.lines()] == ["a"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"streams": [{"stream": {"a": "b"}, "values": [["now", "x"]]}]}'])
def test_a_bad_body_is_refused(loki: Loki, body: bytes) -> None:
    assert ask(loki, "/loki/api/v1/push", body)[0] == 400


def test_too_much_at_once(loki: Loki) -> None:
    loki.set(limited=True)
    assert push(loki, "x", "y")[0] == 429
    loki.set(limited=False)
    assert push(loki, "x", "y")[0] == 204
    page = ask(loki, "/metrics")[1]
    assert 'loki_discarded_samples_total{reason="rate_limited",tenant="fake"} 2' in page
    assert 'route="loki_api_v1_push",status_code="429",ws="false"} 1' in page


def test_tenants(loki: Loki) -> None:
    loki.set(auth=True)
    assert push(loki, "x") == (401, "no org id")
    assert push(loki, "x", X_Scope_OrgID="a")[0] == 204
    found = {}
    for tenant in ("a", "b"):
        text = ask(loki, f"/loki/api/v1/query_range?{urlencode({'query': WEB})}", X_Scope_OrgID=tenant)[1]
        found[tenant] = len(json.loads(text)["data"]["result"])
    assert found == {"a": 1, "b": 0}
    assert ask(loki, "/ready")[0] == 200


def test_unready(loki: Loki) -> None:
    loki.set(ready=False)
    assert ask(loki, "/ready")[0] == 503
    assert push(loki, "x")[0] == 500


def test_the_ruler_reads_the_role_s_files(tmp_path: Path) -> None:
    rule = {"alert": "Mine", "expr": 'count_over_time({app="web"}[5m]) > 0', "labels": {"severity": "warning"}}
    # As kubelet mounts a ConfigMap.
    (tmp_path / "fake/..2026").mkdir(parents=True)
    (tmp_path / "fake/..data").symlink_to("..2026")
    (tmp_path / "fake/rules.yaml").symlink_to("..data/rules.yaml")
    (tmp_path / "fake/rules.yaml").write_text(
        f"groups:\n  - name: log-lines\n    interval: 30s\n    rules: {json.dumps([rule])}\n"
    )
    with Loki(rules=tmp_path, rule_error="") as loki:
        (group,) = json.loads(ask(loki, "/prometheus/api/v1/rules")[1])["data"]["groups"]
        (found,) = group["rules"]
        assert (group["interval"], found["name"], found["state"], found["lastError"]) == (30, "Mine", "inactive", "")
        loki.set(firing=["Mine"], rule_error="parse error")
        (alert,) = json.loads(ask(loki, "/prometheus/api/v1/alerts")[1])["data"]["alerts"]
        assert alert["labels"] == {"alertname": "Mine", "severity": "warning"}
        loki.set(ruler=False)
        assert ask(loki, "/prometheus/api/v1/rules")[0] == 404


def test_it_runs_alone_and_is_switched_by_requests() -> None:
    """As a pod has it: one file, and no package beside Python's own."""
    script = Path(program.__file__)
    done = subprocess.run([sys.executable, "-I", "-S", str(script), "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "--rules" in done.stdout
    with Loki() as loki:
        request = urllib.request.Request(f"{loki.url}/stand-in", b'{"ready": false}', method="PUT")
        assert json.load(urllib.request.urlopen(request, timeout=10))["ready"] is False
        assert not loki.switches.ready
        wrong = urllib.request.Request(f"{loki.url}/stand-in", b'{"redy": false}', method="PUT")
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(wrong, timeout=10)
