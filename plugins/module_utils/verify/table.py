# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table for people: plain text, aligned, never wider than the terminal it is meant for."""

from __future__ import annotations

import textwrap
from typing import Any

WIDTH = 100
WORDS = {"ok": "ok", "failed": "FAILED", "skipped": "skipped"}


def _note(word: str, text: str, indent: str) -> list[str]:
    """A word and what there is to say, within the width."""
    lead = f"{word + ':':<8}"
    text = " ".join(text.split())
    return textwrap.wrap(text, WIDTH, initial_indent=indent + lead, subsequent_indent=indent + " " * 8, break_on_hyphens=False)


def _command(word: str, command: str, indent: str) -> list[str]:
    """A command line broken with backslashes, so that it can still be copied."""
    lines = textwrap.wrap(command, WIDTH - len(indent) - 10, break_long_words=False, break_on_hyphens=False)
    out = []
    for number, line in enumerate(lines):
        lead = f"{word + ':':<8}" if number == 0 else " " * 8
        out.append(indent + lead + line + (" \\" if number < len(lines) - 1 else ""))
    return out


def render(results: list[dict[str, Any]], title: str = "", opening: str = "") -> str:
    """One row for a link; beneath a failed one its cause, what was asked, and the command to look with.

    One that follows from another broken link has only its cause, and the name of that link.

    :param opening: the command that gives the app an address, where it has none of its own.
    """
    width = max([len("link")] + [len(r["link"]) for r in results])
    head = f"{'link':<{width}}  {'status':<8}  {'seconds':>7}  evidence"
    column = width + 2 + 8 + 2 + 7 + 2
    lines = textwrap.wrap(title, WIDTH, break_on_hyphens=False) if title else []
    lines += [head, "-" * min(WIDTH, max(len(head), 60))]
    for result in results:
        evidence = textwrap.wrap(result["evidence"], WIDTH - column, break_on_hyphens=False) or [""]
        row = f"{result['link']:<{width}}  {WORDS[result['status']]:<8}  {result['seconds']:>7.2f}  {evidence[0]}"
        lines.append(row.rstrip())
        lines += [" " * column + line for line in evidence[1:]]
        if result["status"] == "failed":
            indent = " " * (width + 2)
            lines += _note("cause", str(result["cause"]), indent)
            if result["follows"]:
                lines += _note("from", f"the broken link {result['follows']}", indent)
                continue
            lines += _note("asked", result["query"], indent) if result["query"] else []
            lines += _command("next", result["next_command"], indent)
    return "\n".join(lines + (_command("open", opening, "") if opening else []))
