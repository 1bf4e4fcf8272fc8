# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where PromQL stands, and that what verify and the drill ask is PromQL."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.verify import queries

ROOT = Path(__file__).resolve().parents[2]
# A function or an aggregation of PromQL, or a series with matchers that is no line of a page of metrics: no value follows.
PROMQL = re.compile(
    r"\b(?:sum|min|max|count|avg|topk) (?:by|without) ?\("
    r"|\b(?:rate|increase|absent|changes|vector|\w+_over_time|histogram_quantile)\("
    r"|\b[a-z_:]+\{\w+ ?(?:=~|!~|!=|=) ?\"[^{}]*\}(?! [X(])"
)
FOLDERS = ("plugins", "roles", "runner", "in_cluster", "docs", "app")


def texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a program, each with X for what is formatted into it, without the documentation of a module."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    inside |= {id(node.value) for node in assigned if node.targets[0].id in ("DOCUMENTATION", "EXAMPLES", "RETURN")}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def test_what_promql_is() -> None:
    assert PROMQL.search("sum by (a) (b)") and PROMQL.search('up{job="X"}') and PROMQL.search("increase(X[5m])")
    assert not PROMQL.search('up{job="X"} X') and not PROMQL.search(r'up{job="a"} (\S+)')
    assert not PROMQL.search("{'a': 1} of a run(x)") and not PROMQL.search("at most (by far) {name}")


def test_no_program_has_promql() -> None:
    """It stands in the rules, the dashboards and the list of queries, which are files of their own."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 150
    assert [path for path in files if any(PROMQL.search(text) for text in texts(ast.parse(path.read_text())))] == []


@pytest.mark.parametrize("name", sorted(queries.QUERIES))
def test_each_query_parses_and_is_filled(promtool: str, tmp_path: Path, name: str) -> None:
    values = dict.fromkeys(Template(queries.QUERIES[name]).get_identifiers(), "some_name") | {"window": "2m"}
    expr = queries.filled(name, **values)
    assert "$" not in expr
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": [{"record": "q", "expr": expr}]}]}))
    done = subprocess.run([promtool, "check", "rules", "queries.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
