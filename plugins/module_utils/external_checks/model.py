# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks in the words of the modules' options, whatever a provider calls them. Private to this collection.

Options hold seconds, full URLs, and lists whose order has no meaning. An option that is missing is not managed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from .client import (
    CheckError,
    Client,
    ProviderError,
)

SECRET = {"http_password", "request_body"}
HIDDEN = "********"
DEFAULT_PORTS = {"http": 80, "https": 443}


class Gone(Exception):
    """The provider has no check with the id any more."""


@contextlib.contextmanager
def missing_is_gone() -> Iterator[None]:
    """Turn a provider's answer that there is no such check into Gone."""
    try:
        yield
    except ProviderError as exc:
        if exc.status in (404, 410):
            raise Gone from exc
        raise


@contextlib.contextmanager
def already(action: str) -> Iterator[None]:
    """Keep in an error that an action was carried out before it."""
    try:
        yield
    except CheckError as exc:
        exc.done = [action, *exc.done]
        raise


@contextlib.contextmanager
def as_documented(title: str) -> Iterator[None]:
    """Say in one sentence that an answer isn't made as the provider's documents say, wherever that shows."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise CheckError(f"{title} sent an answer in another form than its documents say: run again, and check api_url") from exc


@dataclasses.dataclass
class Found:
    """A check as a provider shows it.

    status: up, down, paused or unknown (not checked yet). options: what the answer tells, under the options' names.
    whole: whether options is all that the provider ever tells; a list often tells less. kind: see kind_of.
    """

    id: Any
    name: str
    kind: str
    status: str
    tags: list[str]
    options: dict[str, Any]
    whole: bool
    # What an update has to send along, under the provider's names.
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def paused(self) -> bool:
        return self.status == "paused"


class Provider:
    """What the engine needs to know of one provider; uptimerobot, pingdom and statuscake fill it in."""

    title = ""
    # Where the API has the checks.
    path = ""
    # Options in the module's order, beside state, id and environment.
    options: tuple[str, ...] = ()
    # Options that the provider never shows again: compared with nothing, sent as update_password says.
    write_only: frozenset[str] = frozenset()
    # Seconds for which a list may still show what was before a write, or a create may take effect after its reply was lost.
    settle = 10
    lags = False
    # Whether a new check can't do without an address to ask.
    needs_url = True

    def __init__(self, client: Client) -> None:
        self.client = client

    def check(self, options: dict[str, Any]) -> None:
        """Refuse, before any request, what the provider can't do."""
        raise NotImplementedError

    def read_all(self, tag: str | None) -> list[Found]:
        """Return all checks, or those with the tag; a list that can't be read in full is an error, never a short list."""
        raise NotImplementedError

    def read(self, check_id: Any) -> Found:
        """Return one check in full, or raise Gone."""
        raise NotImplementedError

    def create(self, options: dict[str, Any], paused: bool) -> Any:
        """Create a check and return its id."""
        raise NotImplementedError

    def update(self, found: Found, changes: dict[str, Any], wanted: dict[str, Any], paused: bool | None) -> None:
        """Send the changed options; paused is None where the run state stays."""
        raise NotImplementedError

    def refuse_other_type(self, found: Found) -> None:
        """Refuse a check of a type that isn't managed here: it is somebody else's, whatever its name and tags."""
        if found.kind != "http":
            raise CheckError(
                f"The check {found.name!r} (id {found.id}) at {self.title} is of type {found.kind}, which is not managed here:"
                " change, rename or delete it there"
            )

    def delete(self, found: Found) -> None:
        """Delete a check, the only place that does; one that is gone already is no error."""
        self.refuse_other_type(found)
        with contextlib.suppress(Gone), missing_is_gone():
            self.client.request("DELETE", f"{self.path}/{quote(str(found.id), safe='')}")

    def completed(self, options: dict[str, Any], kept: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the options of a new check with those that it can't do without, and without those that mean nothing for it.

        kept: options of the check whose place it takes, for those that aren't set.
        """
        return {**(kept or {}), **options}

    def implied(self, options: dict[str, Any], found: Found) -> dict[str, Any]:
        """Return options that have to be set on a check along with those that are wanted."""
        return {}

    def check_change(self, changes: dict[str, Any], found: Found) -> None:
        """Refuse a change that can't be on the check as it is."""

    def fixed_among(self, changes: dict[str, Any], found: Found) -> set[str]:
        """Return the changed options that can't be changed on a check that exists."""
        return set()

    def parsed_check(self, body: dict[str, Any], whole: bool) -> Found:
        """Read one check of an answer; anything that isn't as documented may raise what it will."""
        raise NotImplementedError

    def found(self, body: Any, whole: bool = True) -> Found:
        """Read one check of an answer, all of which can be compared; whole is that of Found."""
        with as_documented(self.title):
            if not isinstance(body, dict):
                raise TypeError("a check is an object")
            found = self.parsed_check(body, whole)
            for option, value in found.options.items():
                if value is not None:
                    self.normal(option, value)
        return found

    def contacts(self) -> list[dict[str, Any]]:
        """Return whom the provider can alert, as dicts with id, name, type, and notifies: whether that tells anybody."""
        raise NotImplementedError

    def normal(self, option: str, value: Any) -> Any:
        """Return a value in the one form in which the wanted and the present are compared."""
        if option == "url":
            return canonical_url(value)
        if option in ("tags", "regions", "contacts", "teams", "integrations", "expected_status_codes", "down_status_codes"):
            return sorted({str(item) for item in value})
        if option == "request_headers":
            return {str(name).lower(): str(text) for name, text in value.items()}
        if option == "request_body":
            return parsed(value)
        return value

    def resolve(self, option: str, names: Sequence[Any], directory: list[dict[str, Any]]) -> list[str]:
        """Turn contacts' names into ids; ids stay."""
        ids = []
        for name in names:
            text = str(name)
            same = [entry for entry in directory if entry["name"] == text]
            if len({str(entry["id"]) for entry in same}) > 1:
                listed = ", ".join(str(entry["id"]) for entry in same)
                raise CheckError(f"{len(same)} entries of {self.title} are named {text!r} (ids {listed}): give an id in {option}")
            if not same and not text.isdigit():
                raise CheckError(f"{self.title} has nobody named {text!r} for {option}: create it there, or correct the name")
            ids.append(str(same[0]["id"]) if same else text)
        return ids


def parsed(text: Any) -> Any:
    """Return JSON as data, since providers write it again, and anything else as it is."""
    if not isinstance(text, str):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict | list) else text


def kind_of(name: Any, managed: Collection[str]) -> str:
    """Return http for a type that is managed here, else the provider's own name, or unknown where it tells none."""
    text = name if isinstance(name, str) else ""
    return "http" if text.upper() in managed else text or "unknown"


def texts(value: Any) -> list[str]:
    """Return a list of an answer, or nothing in its place, as texts; raise TypeError for anything else."""
    if value is not None and not isinstance(value, list):
        raise TypeError("not a list")
    return [str(item) for item in value or []]


def canonical_url(url: str) -> str:
    """Return a URL without its default port, with a path, and with scheme and host in lower case; another text as it is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    netloc = host if port in (None, DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{port}"
    return urlunsplit((parts.scheme.lower(), netloc, parts.path or "/", parts.query, ""))


def check_url(url: str) -> None:
    """Refuse what isn't a full web address."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not re.search(r"\s", url)
    except ValueError:
        valid = False
    if not valid:
        raise CheckError(f"The url {url!r} is not a full web address: give one such as https://shop.example.com/health")
    if "@" in urlsplit(url).netloc:
        raise CheckError("The url holds a user name: use http_username and http_password")


def owner_tag(environment: str) -> str:
    """Return the tag that marks an environment's checks as ours.

    Lower case, because UptimeRobot writes tags so; no commas, because all three take lists of tags separated by them.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,53}[a-z0-9])?", environment):
        raise CheckError(f"The environment {environment!r} can't be part of a tag: use at most 55 of a to z, 0 to 9 and '-'")
    return f"flaskops-{environment}"


def check_tags(tags: Iterable[str]) -> None:
    """Refuse tags that a provider would split or cut."""
    for tag in tags:
        if not tag.strip() or "," in tag or len(tag) > 64:
            raise CheckError(f"The tag {tag!r} is empty, holds a comma, or is longer than 64 characters: change it")


def check_choice(option: str, value: Any, allowed: Sequence[Any], title: str) -> None:
    """Refuse a value that the provider doesn't have."""
    if value is not None and value not in allowed:
        raise CheckError(f"{title} has no {option} {value}: use one of {', '.join(str(item) for item in allowed)}")


def check_range(option: str, value: Any, low: int, high: int, title: str) -> None:
    """Refuse a number that the provider doesn't take."""
    if value is not None and not low <= value <= high:
        raise CheckError(f"{title} takes {option} from {low} to {high}, not {value}: change it")


def member(body: dict[str, Any], key: str, kind: type, title: str) -> Any:
    """Return a part that every answer must have."""
    value = body.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise CheckError(f"{title} sent an answer without a usable {key}: run again, and check api_url")
    return value
