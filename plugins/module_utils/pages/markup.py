# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTML and SVG in which nothing is forgotten to be escaped: text is escaped, unless it is markup made here."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

VOID = frozenset({"meta", "link", "br"})


class Html(str):
    """Text that is markup already."""

    def __html__(self) -> Html:
        """A template that escapes takes it as it is."""
        return self


Child: TypeAlias = "str | Iterable[Child] | None"


def markup(*children: Child) -> Html:
    """Children one after another; None is nothing, text is escaped."""
    parts = []
    for child in children:
        if isinstance(child, str):
            parts.append(child if isinstance(child, Html) else html.escape(child, quote=False))
        elif child is not None:
            parts.append(markup(*child))
    return Html("".join(parts))


def element(name: str, /, *children: Child, **attributes: object) -> Html:
    """An element; ``class_`` is the attribute class, ``aria_label`` is aria-label, and None leaves an attribute out."""
    opening = name
    for key, value in attributes.items():
        if value is not None:
            opening += f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
    return Html(f"<{opening}>" if name in VOID else f"<{opening}>{markup(*children)}</{name}>")
