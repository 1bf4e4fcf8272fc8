# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
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
QUERIES = {name: text for name, text in vars(queries).items() if name.isupper()}
# A function or an aggregation of PromQL, or a series with matchers.
PROMQL = re.compile(
    r"\b(?:sum|min|max|count|avg|topk) (?:by|without) ?\("
    r"|\b(?:rate|increase|absent|changes|vector|\w+_over_time|histogram_quantile)\("
    r"|\b[a-z_:]+\{\w+ ?(?:=~|!~|!=|=) ?\"[^{}]*\}"
)
# Why some files may hold it, or what looks like it.
EXCEPTIONS = {
    "plugins/module_utils/verify/queries.py": "all queries of verify and the drill: a module takes along nothing but Python",
    "plugins/module_utils/_settled.py": "reads a page of metrics",
    "plugins/modules/flask_apps.py": "documentation",
    "roles/victoria_logs/files/collector/collector.py": "writes a page of metrics",
}


def texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a program, each with X for what is formatted into it."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def test_what_promql_is() -> None:
    assert PROMQL.search("sum by (a) (b)") and PROMQL.search('up{job="X"}') and PROMQL.search("increase(X[5m])")
    assert not PROMQL.search("{'a': 1} of a run(x)") and not PROMQL.search("at most (by far) {name}")


def test_promql_is_in_rule_files_dashboards_and_one_list_of_queries() -> None:
    files = [path for folder in ("plugins", "roles", "runner", "docs", "app") for path in (ROOT / folder).rglob("*.py")]
    assert files
    found = {
        str(path.relative_to(ROOT)) for path in files if any(PROMQL.search(text) for text in texts(ast.parse(path.read_text())))
    }
    assert found - EXCEPTIONS.keys() == set()
    assert EXCEPTIONS.keys() - found == set()


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_each_query_parses_and_is_filled(promtool: str, tmp_path: Path, name: str) -> None:
    values = dict.fromkeys(Template(QUERIES[name]).get_identifiers(), "some_name")
    expr = queries.filled(QUERIES[name], **values)
    assert "$" not in expr
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": [{"record": "q", "expr": expr}]}]}))
    done = subprocess.run([promtool, "check", "rules", "queries.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
