# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a page: its head, its tables, and a status that is more than a colour."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from .markup import Child, Html, element, markup

HERE = Path(__file__).parent
# The browser itself refuses whatever would be loaded from elsewhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TICK, CROSS, DASH, ALARM = "M3 8.5 6.5 12 13 4.5", "M4 4l8 8M12 4l-8 8", "M4 8h8", "M8 2 1.5 14h13zM8 6.5v3M8 11.7v.1"
ARROW = "M3 8h9M8.5 4.5 12 8l-3.5 3.5"


def style(*sheets: Path) -> Html:
    """The style of all pages and those of one, without the comments at their heads."""
    texts = [sheet.read_text(encoding="utf-8").split("*/\n", 1)[1] for sheet in (HERE / "base.css", *sheets)]
    return Html("\n" + "".join(texts))


def document(title: str, styles: Html, *body: Child) -> str:
    """A whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", styles),
    )
    return "<!DOCTYPE html>\n" + element("html", head, "\n", element("body", body), lang="en") + "\n"


def breakable(name: str) -> Html:
    """A name that breaks, where it has to, at a capital or after a sign, rather than anywhere."""
    return Html(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-zA-Z0-9][-_./:])(?=\w)", "<wbr>", markup(name)))


def status(word: str, kind: str, icon: str = "") -> Html:
    """A status: an icon, a colour by its kind, and the word that says the same."""
    drawn = element("svg", element("path", d=icon), class_="icon", viewBox="0 0 16 16", aria_hidden="true") if icon else None
    return element("span", drawn, word, class_=f"status {kind}".strip())


def time(at: datetime.datetime, form: str = "%Y-%m-%d %H:%M:%S UTC") -> Html:
    """A moment in UTC."""
    return element("time", at.strftime(form), datetime=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def table(caption: Child, columns: list[str], rows: list[Html]) -> Html:
    """A table; the roles keep it one where a telephone's style takes the display of its parts."""
    heads = [element("th", name, scope="col", role="columnheader") for name in columns]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", heads, role="row"), role="rowgroup"),
        "\n",
        element("tbody", [[row, "\n"] for row in rows], role="rowgroup"),
        role="table",
    )


def row(head: Child, *cells: Child, ident: str | None = None) -> Html:
    """A row, with what it is about in front."""
    return element("tr", element("th", head, scope="row", role="rowheader"), cells, role="row", id=ident)


def cell(label: str, *children: Child, class_: str | None = None) -> Html:
    """A cell that names its column where a row is shown as a card; the role keeps it a cell there."""
    return element("td", *children, role="cell", data_label=label, class_=class_)


def section(ident: str, heading: str, *children: Child) -> Html:
    """A part of a page with a heading, which is a landmark of that name."""
    return element("section", element("h2", heading, id=ident), *children, aria_labelledby=ident)


def glance(items: list[tuple[str, Child, Child]]) -> Html:
    """What it comes to at one glance: each a name, a value, and a detail that may be empty."""
    made = []
    for name, value, detail in items:
        small = element("span", detail) if detail else None
        made.append(element("div", element("dt", name), element("dd", value, small)))
    return element("dl", made, class_="glance")


def verdict(tone: str, headline: str, *children: Child) -> Html:
    """What the page says in one sentence; the tone is good, bad, or none where nothing is proven."""
    return element("section", element("p", headline), *children, class_=f"verdict {tone}", aria_label="Verdict")
