# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A page read as a tree, what is wrong with it for people who can't see it well, and the contrast of its colours."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "wbr"}
# Each pair of colours that the style sheet puts upon one another: 4.5 for text, 3 for shapes that carry a meaning (WCAG 2.2 AA).
TEXT = [(front, back) for front in ("ink", "muted", "good", "bad", "warn") for back in ("page", "fault")]
TEXT += [("link", "page"), ("good", "good-back"), ("bad", "bad-back"), ("warn", "warn-back")]
TEXT += [("ink", "good-back"), ("ink", "bad-back"), ("ink", "warn-back")]
SHAPES = [("band-edge", "page"), ("band-edge", "fault"), ("good", "band"), ("bad", "band"), ("warn", "band"), ("ink", "band")]


@dataclass
class Node:
    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def __getitem__(self, key: str) -> str:
        return self.attributes.get(key, "")

    def all(self, *names: str) -> Iterator[Node]:
        for child in self.children:
            if isinstance(child, Node):
                if not names or child.name in names:
                    yield child
                yield from child.all(*names)

    def text(self) -> str:
        """What is in it, each element apart from its neighbours."""
        parts = [child if isinstance(child, str) else f" {child.text()} " for child in self.children]
        return "".join("" if part == "  " else part for part in parts)


class Tree(HTMLParser):
    """A strict reader: an element that is not closed, or closed twice, is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = Node("")
        self.open = [self.root]
        self.feed(html)
        self.close()
        assert self.open == [self.root], f"not closed: {[node.name for node in self.open[1:]]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _value in attrs}) == len(attrs), f"an attribute twice: <{tag}>"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


@functools.lru_cache(maxsize=4)
def read(html: str) -> Node:
    return Tree(html).root


def problems(root: Node) -> list[str]:
    """What a person with a screen reader, a keyboard or a large font would stumble over."""
    found = []
    (page,) = root.all("html")
    if not page["lang"]:
        found.append("the page has no language")
    if not "".join(node.text() for node in page.all("title")).strip():
        found.append("the page has no title")
    for meta in page.all("meta"):
        if meta["name"] == "viewport" and re.search("user-scalable|maximum-scale", meta["content"]):
            found.append("the page can't be enlarged")
    for name in ("h1", "main"):
        if len(list(page.all(name))) != 1:
            found.append(f"the page has {len(list(page.all(name)))} {name}")
    level = 0
    for heading in page.all("h1", "h2", "h3", "h4"):
        if int(heading.name[1]) > level + 1:
            found.append(f"the heading {heading.text()!r} skips a level")
        level = int(heading.name[1])
        if not heading.text().strip():
            found.append("a heading is empty")
    ids = [node["id"] for node in page.all() if node["id"]]
    landmarks = [node["aria-label"] or node["aria-labelledby"] for node in page.all("section")]
    texts = {node["id"]: " ".join(node.text().split()) for node in page.all() if node["id"]}
    names = [texts.get(name, name) for name in landmarks]
    found += [f"two landmarks are called {name!r}" for name in set(names) if names.count(name) > 1]
    found += [f"the id {ident} is there twice" for ident in set(ids) if ids.count(ident) > 1]
    for node in page.all():
        referred = [*node["aria-labelledby"].split(), *node["aria-describedby"].split()]
        if node.name in ("a", "use") and node["href"].startswith("#"):
            referred.append(node["href"].removeprefix("#"))
        if node.name == "a" and not node["href"]:
            found.append("a link leads nowhere")
        found += [f"{node.name} refers to {ident!r}, which is not there" for ident in referred if ident not in ids]
        if node.name in ("section", "article") and not (node["aria-label"] or node["aria-labelledby"]):
            found.append(f"a {node.name} has no name")
        if node.name == "a" and not node.text().strip():
            found.append("a link has no text")
        if node.name == "svg" and node["aria-hidden"] != "true":
            named = {child.name for child in node.all("title", "desc") if child.text().strip()}
            if node["role"] != "img" or named != {"title", "desc"}:
                found.append("a picture has no name or no text in its place")
        if "status" in node["class"].split() and not node.text().strip():
            found.append("a status is shown by its colour alone")
    for table in page.all("table"):
        columns = list(next(table.all("thead")).all("th"))
        if not any(caption.text().strip() for caption in table.all("caption")):
            found.append("a table has no caption")
        if any(head["scope"] != "col" for head in columns):
            found.append("a table's column has no scope")
        for row in next(table.all("tbody")).all("tr"):
            heads = list(row.all("th"))
            if len(heads) != 1 or heads[0]["scope"] != "row":
                found.append("a table's row has no header")
            if len(list(row.all("th", "td"))) != len(columns):
                found.append("a table's row has another number of cells than the table has columns")
            # The style shows a row as a card on a telephone, which takes the meaning of cells that don't say their role.
            if any(cell["role"] != "cell" or not cell["data-label"] for cell in row.all("td")):
                found.append("a cell says neither its role nor its column")
    return found


def beside(root: Node) -> list[str]:
    """What would be loaded from elsewhere, or run; a browser that keeps to the page's policy refuses it too."""
    names = {"script", "img", "iframe", "object", "embed", "form", "base", "foreignobject"}
    found = [f"there is a {node.name}" for node in root.all(*names)]
    for node in root.all():
        loads = [node[name] for name in ("href", "src", "xlink:href") if node[name] and node.name != "a"]
        found += [f"{node.name} loads {to}" for to in loads if not to.startswith(("#", "data:,"))]
        found += [f"{node.name} has {name}" for name in node.attributes if name.startswith("on") or name == "style"]
        if node.name == "a" and re.match(r"(?!https?:)[a-z][a-z0-9+.-]*:", node["href"].strip().lower()):
            found.append(f"a link does {node['href']}")
    (style,) = (node.text() for node in root.all("style"))
    found += [f"the style loads {to}" for to in re.findall(r"url\([^)]*\)|@import", style) if to != "url(#hatch)"]
    (policy,) = (m["content"] for m in root.all("meta") if m["http-equiv"] == "Content-Security-Policy")
    if policy != "default-src 'none'; style-src 'unsafe-inline'; img-src data:":
        found.append(f"the policy is {policy}")
    return found


def colours(style: str) -> dict[str, dict[str, str]]:
    """The variables of the light and the dark scheme."""
    light, dark = re.findall(r":root \{([^}]*)\}", style)
    return {name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text)) for name, text in (("light", light), ("dark", dark))}


def weak(style: str, scheme: str) -> dict[tuple[str, str], float]:
    """The pairs of colours with too little contrast."""
    colour = colours(style)[scheme]
    found = {pair: (contrast(colour[pair[0]], colour[pair[1]]), 4.5) for pair in TEXT}
    found |= {pair: (contrast(colour[pair[0]], colour[pair[1]]), 3) for pair in SHAPES if pair not in found}
    return {pair: ratio for pair, (ratio, least) in found.items() if ratio < least}


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(front: str, back: str) -> float:
    """WCAG's ratio, from 1 to 21."""
    low, high = sorted((luminance(front), luminance(back)))
    return (high + 0.05) / (low + 0.05)
