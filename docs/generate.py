#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the table of variables in each role's README from its argument specification.

With --check nothing is written, and the exit code is 1 when a README is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- variables:start -->", "<!-- variables:end -->"
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


def table(specs: dict[str, Any]) -> str:
    """One row for each option of the role's entry point."""
    rows = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in specs["argument_specs"]["main"].get("options", {}).items():
        given = option.get("description", "")
        meaning = plain(given if isinstance(given, str) else " ".join(given))
        if "choices" in option:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        rows.append(f"| `{name}` | {kind(option)} | {cell(option)} | {meaning} |")
    return "\n".join(rows)


def filled(readme: Path) -> str:
    """The README's text as it should be."""
    text = readme.read_text()
    if text.count(START) != 1 or text.count(END) != 1:
        sys.exit(f"{readme.relative_to(ROOT)} needs exactly one '{START}' and one '{END}': add the two lines.")
    head, rest = text.split(START)
    tail = rest.split(END)[1]
    specs = yaml.safe_load((readme.parent / "meta/argument_specs.yml").read_text())
    return f"{head}{START}\n{table(specs)}\n{END}{tail}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a README is stale")
    check = parser.parse_args().check
    stale = 0
    for specs in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        readme = specs.parents[1] / "README.md"
        if not readme.exists():
            print(f"{readme.relative_to(ROOT)} is missing: write it.", file=sys.stderr)
            stale += 1
            continue
        wanted = filled(readme)
        if wanted != readme.read_text():
            if check:
                print(f"{readme.relative_to(ROOT)} is stale: run 'make docs'.", file=sys.stderr)
                stale += 1
            else:
                readme.write_text(wanted)
                print(f"{readme.relative_to(ROOT)} was rewritten.")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
