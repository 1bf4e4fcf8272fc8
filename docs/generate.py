#!/usr/bin/env python3
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the table of variables in each role's README from its argument specification, that of flask_apps from its
documentation, and that of tried applications from their list; write the dashboards' JSON.

With --check nothing is written, and the exit code is 1 when one is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import dashboards
import yaml

ROOT = Path(__file__).resolve().parents[1]
APPLICATIONS = ROOT / "docs/applications.md"
DESCRIPTION = ROOT / "plugins/modules/flask_apps.py"
# O(name), V(value), C(code) and the like of Ansible's markup.
MARKUP = re.compile(r"\b([BCEIMOV])\(([^()]*(?:\([^()]*\)[^()]*)*)\)")


def plain(text: str) -> str:
    """Ansible's markup as Markdown, safe inside a table's cell."""
    found = MARKUP.sub(lambda m: {"B": "**{}**", "I": "*{}*"}.get(m[1], "`{}`").format(m[2]), " ".join(text.split()))
    return found.replace("|", "\\|")


def cell(option: dict[str, Any]) -> str:
    """The default as code, or that one must be given."""
    if "default" not in option:
        return "*required*" if option.get("required") else ""
    value = option["default"]
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`".replace("|", "\\|")


def kind(option: dict[str, Any]) -> str:
    """The type, with the type of a list's elements."""
    name = str(option.get("type", "str"))
    return f"{name} of {option['elements']}" if "elements" in option else name


def table(options: dict[str, Any], word: str = "variable") -> str:
    """One row for each option."""
    rows = [f"| {word} | type | default | meaning |", "|---|---|---|---|"]
    for name, option in options.items():
        given = option.get("description", "")
        meaning = plain(given if isinstance(given, str) else " ".join(given))
        if "choices" in option:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        rows.append(f"| `{name}` | {kind(option)} | {cell(option)} | {meaning} |")
    return "\n".join(rows)


def description() -> str:
    """One row for each key of an application in flask_apps; those of a mapping have its name before them."""
    text = DESCRIPTION.read_text().split('DOCUMENTATION = r"""')[1].split('"""')[0]
    keys = yaml.safe_load(text)["options"]["apps"]["suboptions"]
    flat = {f"{name}.{key}": inner for name in ("verify", "drill") for key, inner in keys.pop(name)["suboptions"].items()}
    return table(keys | flat, "key")


def applications() -> str:
    """One row for each application that the tests build, with its options."""
    rows = ["| application | options | what is special about it |", "|---|---|---|"]
    for one in yaml.safe_load((ROOT / "tests/applications.yml").read_text()):
        given = dict(one["image"])
        if "sdist" in one:
            given["source"] = f"{one['image']['source']} of the source package {one['sdist']}"
        elif "files" in one:
            given["source"] = "a folder with " + " and ".join(one["files"])
        if "environment" in one:
            given["environment"] = one["environment"]
        said = [f"`{name}`: {value if name == 'source' else f'`{json.dumps(value)}`'}" for name, value in given.items()]
        rows.append(f"| {one['name']} | {'<br>'.join(said)} | {plain(one['about'])} |")
    return "\n".join(rows)


def filled(page: Path, word: str, table: str) -> str:
    """The page's text as it should be, with its table between two marks."""
    text, start, end = page.read_text(), f"<!-- {word}:start -->", f"<!-- {word}:end -->"
    if text.count(start) != 1 or text.count(end) != 1:
        sys.exit(f"{page.relative_to(ROOT)} needs exactly one '{start}' and one '{end}': add the two lines.")
    head, rest = text.split(start)
    return f"{head}{start}\n{table}\n{end}{rest.split(end)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is stale")
    check = parser.parse_args().check
    pages = {
        specs.parents[1] / "README.md": (
            "variables",
            table(yaml.safe_load(specs.read_text())["argument_specs"]["main"]["options"]),
        )
        for specs in sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
    }
    pages[APPLICATIONS] = ("applications", applications())
    pages[ROOT / "docs/flask_apps.md"] = ("keys", description())
    stale = 0
    wanted = dashboards.files()
    for page, (word, rows) in pages.items():
        if page.exists():
            wanted[page] = filled(page, word, rows)
        else:
            print(f"{page.relative_to(ROOT)} is missing: write it.", file=sys.stderr)
            stale += 1
    for page, text in wanted.items():
        if page.exists() and page.read_text() == text:
            continue
        if check:
            print(f"{page.relative_to(ROOT)} is stale: run 'make docs'.", file=sys.stderr)
            stale += 1
        else:
            page.write_text(text)
            print(f"{page.relative_to(ROOT)} was rewritten.")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
