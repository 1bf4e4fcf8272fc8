# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbered cases are read as they are meant, and a file that is none is refused with its name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import verify_cases
from tests.breakage import OBJECTS, edit
from tests.verify_cases import CaseError, load, named, parse

GOOD = """\
what: The Service selects pods that nobody has.
break: [{change: {of: service, put: {/spec/selector: {app: nobody}}}}]
until: [{no_endpoints: {seconds: 3}}]
link: endpoint
cause: its selector is app=(nobody|no-one)
"""


def test_the_cases_are_read() -> None:
    cases = load()
    assert len(cases) >= 90
    assert 8 <= sum(case.sample and case.agent != "fluent bit" for case in cases) <= 10
    objects = [given["of"] for case in cases for _way, given in case.ways if "of" in given]
    assert [name for name in objects if name not in OBJECTS and not name.startswith("/")] == []
    assert named("data-source-wrong").link == "data sources"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("link: endpoint", "link: endpoints"), "endpoints"),
        (("link: endpoint\n", ""), "link"),
        (("change:", "changes:"), "changes"),
        (("of: service", "to: service"), "'of'"),
        (("no_endpoints", "no_endpoint"), "no_endpoint"),
        (("{seconds: 3}", "{second: 3}"), "second"),
        (("no-one)", "no-one"), "unterminated"),
        (("what:", "why: x\nwhat:"), "why"),
        (("what:", "agent: vector\nwhat:"), "vector is none of"),
        (("[{change: {of: service, put: {/spec/selector: {app: nobody}}}}]", "[]"), "nothing"),
        ((GOOD, "- no case"), "no"),
        ((GOOD, "a: [b"), "flow sequence"),
    ],
)
def test_a_file_that_is_no_case_is_refused(change: tuple[str, str], word: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(CaseError, match=f"(?s)^001-a: .*{word}"):
        parse("001-a", GOOD.replace(*change))


def test_numbers_are_neither_missing_nor_there_twice(tmp_path: Path) -> None:
    (tmp_path / "001-a.yml").write_text(GOOD)
    assert [case.name for case in load(tmp_path)] == ["001-a"]
    for name in ("001-b", "003-b", "b"):
        (tmp_path / f"{name}.yml").write_text(GOOD)
        with pytest.raises(CaseError, match=name):
            load(tmp_path)
        (tmp_path / f"{name}.yml").unlink()


def test_a_case_breaks_waits_and_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []

    class Changed:
        def __init__(self, path: str, change: Any) -> None:
            self.path, self.item = path, {"spec": {"selector": {"app": "shop"}, "ports": []}}
            change(self.item)

        def __enter__(self) -> None:
            done.append((self.path, json.dumps(self.item)))

        def __exit__(self, *_error: object) -> None:
            done.append("mended")

    def until(what: str, look: Any, seconds: float) -> None:
        done.append((what, seconds, look()))

    monkeypatch.setattr(verify_cases, "until", until)
    bench: Any = SimpleNamespace(changed=Changed, get=lambda *_: {"items": []})
    with parse("001-a", GOOD).broken(bench):
        done.append("broken")
    changed = (OBJECTS["service"], '{"spec": {"selector": {"app": "nobody"}, "ports": []}}')
    assert done == [changed, ("001-a: no_endpoints", 3, True), "broken", "mended"]


def test_places_in_an_object() -> None:
    rules = [{"alert": "A"}, {"alert": "B"}]
    item: dict[str, Any] = {"metadata": {"labels": {}}, "groups": [{"name": "a"}, {"name": "b", "rules": rules}]}
    edit(item, put={"/metadata/labels/a~1b": "c"}, append={"/groups/0/rules": 1}, remove=["/groups/name=b/rules/alert=A"])
    assert item == {"metadata": {"labels": {"a/b": "c"}}, "groups": [{"name": "a", "rules": [1]}, {"name": "b", "rules": rules}]}
    assert rules == [{"alert": "B"}]
    with pytest.raises(KeyError):
        edit(item, put={"/specs/replicas": 0})
    with pytest.raises(StopIteration):
        edit(item, remove=["/groups/name=c"])
