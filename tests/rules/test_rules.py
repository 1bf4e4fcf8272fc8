# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules as Prometheus evaluates them: promtool runs the YAML files beside this one.

Each file is named for its alert. `rules.yml` in them is what the role installs for the application flask-app in
namespace shop with the workers mail and mail-fast, a goal of 99.9 %, and one of 99 % within half a second; `literal.yml` the same
with the reference's literal rule; `verify.yml` what watches its scheduled verification.
"""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import dashboards, rules
from prometheus_client import CollectorRegistry, generate_latest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "app")]

from flaskops_app import create_app
from promql import metric_names

FILES = sorted(path for path in HERE.glob("*.yml") if path.name != "known_metrics.yml")
OPTIONS: dict[str, Any] = {"name": "flask-app", "namespace": "shop"}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "rules.yml": rules.rule_groups(
        {
            **OPTIONS,
            "workers": [{"name": "mail"}, {"name": "mail-fast"}],
            "slo": 0.999,
            "slo_latency": 0.99,
            "alerts": {"LogSilence": {"enabled": True}},
        }
    ),
    "literal.yml": rules.rule_groups({**OPTIONS, "literal_error_rate": True}),
    # What the role verify installs for a verification every five minutes.
    "verify.yml": rules.verify_rule_groups("flask-app", "shop", 300, {}),
}
QUERIES = dashboards.queries(dashboards.all_dashboards())
ALERTS = sorted({**rules.ALERTS, **rules.VERIFY_ALERTS})

RULES = [rule for name in ("rules.yml", "verify.yml") for group in VARIANTS[name] for rule in group["rules"] if "alert" in rule]


def run(promtool: str, folder: Path, file: Path, expr: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Test a file's alerts, some of them with another expression. Alerts that it does not name would take time alone."""
    text = file.read_text()
    for name, groups in copy.deepcopy(VARIANTS).items():
        for group in groups:
            group["rules"] = [rule for rule in group["rules"] if re.search(rf"\b{rule.get('alert', '')}\b", text)]
            for rule in group["rules"]:
                rule["expr"] = (expr or {}).get(rule.get("alert", ""), rule["expr"])
        (folder / name).write_text(yaml.safe_dump({"groups": groups}))
    (folder / file.name).write_text(text)
    return subprocess.run([promtool, "test", "rules", file.name], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_promtool(promtool: str, tmp_path: Path, file: Path) -> None:
    done = run(promtool, tmp_path, file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_tests_that_can_fail(promtool: str, tmp_path: Path, alert: str) -> None:
    """One that fires it and one that keeps it silent; and an alert that never or always fires is noticed."""
    file = HERE / f"{alert}.yml"
    tests = yaml.safe_load(file.read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", []) if case["alertname"] == alert]
    assert [case for case in cases if case["exp_alerts"]], "no test in which it fires"
    assert [test for test in tests if test["name"].startswith("silent")], "no test in which it stays silent"
    for expr in ("vector(1) < 0", "vector(1)"):
        assert run(promtool, tmp_path, file, {alert: expr}).returncode != 0, expr


def samples(values: str) -> list[float | None]:
    """The samples of a series in promtool's notation, None for one that is missing or stale."""
    found: list[float | None] = []
    for word in values.split():
        number, times = re.fullmatch(r"(.+?)(?:x(\d+))?", word).groups()  # type: ignore[union-attr]
        if number in ("_", "stale"):
            found += [None] * int(times or 1)
            continue
        start, step = re.fullmatch(r"(-?[\d.]+?)([+-][\d.]+)?", number).groups()  # type: ignore[union-attr]
        found += [float(start) + n * float(step or 0) for n in range(int(times or 0) + 1)]
    return found


def test_samples() -> None:
    assert samples("_x2 1+2x2 stale 7x1 -3") == [None, None, 1, 3, 5, None, 7, 7, -3]


COUNTING = [rule["alert"] for rule in RULES if re.search(r"\b(rate|increase|histogram_quantile)\(|:ratio_rate", rule["expr"])]


@pytest.mark.parametrize("alert", COUNTING)
def test_what_counters_do_is_tried(alert: str) -> None:
    """Each expression on counters is tried with lost scrapes, with a counter that begins again, and with one that is new."""
    tests = yaml.safe_load((HERE / f"{alert}.yml").read_text())["tests"]
    series = [samples(str(series["values"])) for test in tests for series in test["input_series"]]
    read = [[n for n, value in enumerate(s) if value is not None] for s in series]
    assert [n for n in read if n[0] > 0], "no series that appears later"
    assert [n for n in read if len(n) <= n[-1] - n[0]], "no scrape is lost"
    ends = [s for s in series if s[-1] is None]
    resets = [s for s in series for a, b in pairwise([v for v in s if v is not None]) if b < a]
    assert resets or ends, "no counter begins again or goes with its pod"


def test_every_file_tests_an_alert() -> None:
    assert {path.name.split(".")[0] for path in FILES} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_runbook(alert: str) -> None:
    text = (ROOT / "docs/runbooks" / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["What it means", "First look", "Usual causes", "Silence it"]
    assert "```sh" in text.split("## First look")[1].split("## Usual causes")[0]


def test_no_runbook_is_left_over() -> None:
    assert {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README"} == set(ALERTS)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_form_of_each_alert(variant: str) -> None:
    found = [rule for group in VARIANTS[variant] for rule in group["rules"] if "alert" in rule]
    assert found
    for rule in found:
        assert re.fullmatch(r"([A-Z][a-z0-9]*|P95|OOM)+", rule["alert"])
        # The test alert is critical where it is meant to wake somebody, and else nothing.
        tested = '{{ if match "^flaskops-verify-notify-" $labels.service }}critical{{ else }}none{{ end }}'
        assert rule["labels"]["severity"] in (*rules.SEVERITIES, *([tested] if rule["alert"] == "VerifyTestAlert" else []))
        annotations = rule["annotations"]
        assert annotations["runbook_url"].endswith(f"/{rule['alert']}.md")
        assert "{{" not in annotations["summary"] and annotations["description"].endswith(".")


def app_metrics() -> set[str]:
    """The names on the reference application's page after a request and an error."""
    registry = CollectorRegistry()
    app = create_app(registry)

    @app.get("/fails")
    def fails() -> str:
        raise RuntimeError

    client = app.test_client()
    assert client.get("/").status_code == 200
    assert client.get("/fails").status_code == 500
    lines = generate_latest(registry).decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def known_metrics() -> set[str]:
    listed = yaml.safe_load((HERE / "known_metrics.yml").read_text())
    return app_metrics() | {name for names in listed.values() for name in names}


def test_every_metric_of_the_rules_is_exported() -> None:
    recorded, used = set(), set()
    for groups in VARIANTS.values():
        for group in groups:
            recorded |= {rule["record"] for rule in group["rules"] if "record" in rule}
            used |= {name for rule in group["rules"] for name in metric_names(rule["expr"])}
    assert {"up", "flask_http_request_total", "kube_pod_created", "probe_success"} <= used
    assert used - recorded - known_metrics() == set()


def test_every_metric_of_the_dashboards_is_exported() -> None:
    used = {name for query in QUERIES for name in metric_names(query.expr)}
    recorded = {rule["record"] for group in VARIANTS["rules.yml"] for rule in group["rules"] if "record" in rule}
    assert {"flask_http_request_duration_seconds_bucket", "container_memory_working_set_bytes"} <= used
    assert used - recorded - known_metrics() == set()
    # What verify does not ask where an application does not record it.
    assert {name for query in QUERIES for name in dashboards.recorded(query.expr)} == used & recorded


def test_no_name_is_listed_in_vain() -> None:
    listed = {name for names in yaml.safe_load((HERE / "known_metrics.yml").read_text()).values() for name in names}
    used = {name for query in QUERIES for name in metric_names(query.expr)}
    for groups in VARIANTS.values():
        used |= {name for group in groups for rule in group["rules"] for name in metric_names(rule["expr"])}
    assert listed - used == set()


def test_every_query_of_the_dashboards_parses(promtool: str, tmp_path: Path) -> None:
    records = [{"record": f"query{n}", "expr": query.expr} for n, query in enumerate(QUERIES)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    done = subprocess.run([promtool, "check", "rules", "queries.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('sum by (job, le) (rate(a_bucket{x="b c{}"}[5m] offset 1h)) / on (pod) group_left () d:e > 1e3', {"a_bucket", "d:e"}),
        ("absent(up) unless time() - f < 600 or vector(0)", {"up", "f"}),
    ],
)
def test_metric_names(expr: str, names: set[str]) -> None:
    assert metric_names(expr) == names
