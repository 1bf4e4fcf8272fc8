# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a provider's checks what was wanted: find, compare, change. The same for every provider. Private to this collection."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable
from typing import Any, TypeVar

from .client import (
    CheckError,
    LostReply,
    ProviderError,
)
from .model import (
    HIDDEN,
    SECRET,
    Found,
    Gone,
    Provider,
    already,
)

DEFAULT_INTERVAL = 300  # seconds; every provider has it in its smallest plan
T = TypeVar("T")
MAX_FORBIDDEN = 3  # answers in a row, after which no more checks are tried
MAX_NAMED = 5  # checks that one message names
CONTACT_OPTIONS = ("contacts", "teams")
# Providers forget these where the check has no keyword.
KEYWORD_DETAILS = ("keyword_match", "keyword_case_sensitive")


@dataclasses.dataclass
class Wanted:
    """One check as it should be: options holds those that were set, in the form of the module's options."""

    name: str
    options: dict[str, Any]
    state: str = "present"
    id: Any = None
    recreate: bool = False
    update_password: str = "on_create"
    # Names of headers whose values may be shown.
    open_headers: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        return f"check {self.name!r}" if self.name else f"check {self.id}"


@dataclasses.dataclass
class Outcome:
    """What was done, or would be, with one check."""

    name: str
    id: Any = None
    actions: list[str] = dataclasses.field(default_factory=list)
    before: dict[str, Any] = dataclasses.field(default_factory=dict)
    after: dict[str, Any] = dataclasses.field(default_factory=dict)
    check: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""

    @property
    def changed(self) -> bool:
        return bool(self.actions)


def shown(provider: Provider, options: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Return options for the eyes of anybody: in order, without secrets."""
    shown: dict[str, Any] = {}
    for option in (*provider.options, "paused"):
        value = options.get(option)
        if value is None:
            continue
        if option == "request_headers":
            mine = provider.normal(option, wanted.options.get(option, {}))
            value = {
                name: text if name in wanted.open_headers and mine.get(name) == text else HIDDEN
                for name, text in sorted(provider.normal(option, value).items())
            }
        elif option in SECRET:
            value = HIDDEN if value else value
        elif option in ("url", "final_url") and isinstance(value, str):
            # Somebody may have written a login into it by hand.
            value = re.sub(r"//[^/]*@", f"//{HIDDEN}@", value)
        elif isinstance(value, list):
            value = provider.normal(option, value)
        shown[option] = value
    return shown


class Reconciler:
    """Works on the checks of one provider that carry one tag.

    warn: called with a sentence. wait: read the list after writes until it shows them, where the provider lags.
    """

    def __init__(self, provider: Provider, tag: str, check_mode: bool, warn: Callable[[str], None], wait: bool = True) -> None:
        self.provider, self.tag, self.check_mode, self.warn = provider, tag, check_mode, warn
        self.wait = wait and provider.lags
        self.ours: dict[Any, Found] = {}
        self.by_name: dict[str, list[Found]] = {}
        self.directory: list[dict[str, Any]] | None = None
        # What the provider's list must show in the end: id to wanted options, paused among them, or None where it was deleted.
        self.expected: dict[Any, dict[str, Any] | None] = {}
        # Those of them that were found by id and aren't ours, so that they are in no list that is read here.
        self.foreign: set[Any] = set()

    def load(self) -> None:
        """Read the checks that are ours. Anything but the full list raises."""
        listed = self.provider.read_all(self.tag)
        for found in listed:
            # It was asked for by its tag: taking it for somebody else's would make a second one.
            if not found.tags:
                what = f"check {found.name!r} (id {found.id}) under {self.tag} without its tags"
                raise CheckError(f"{self.provider.title} lists {what}: run again, and check api_url")
        self.ours = {found.id: found for found in listed if self.tag in found.tags}
        self.by_name = {}
        for found in self.ours.values():
            self.by_name.setdefault(self.provider.normal("name", found.name), []).append(found)

    def prepare(self, wanted: Wanted) -> None:
        """Refuse what can't be, and turn contacts' names into ids: before anything is changed."""
        if wanted.state == "absent":
            return
        options = wanted.options
        try:
            self.provider.check(options)
            for option in CONTACT_OPTIONS:
                if any(not str(name).isdigit() for name in self._names(options, option)):
                    if self.directory is None:
                        self.directory = self.provider.contacts()
                    options[option] = self.provider.resolve(option, options[option], self.directory)
        except ProviderError:
            raise
        except CheckError as exc:
            raise CheckError(f"The {wanted.label} is refused: {exc}") from exc

    def _names(self, options: dict[str, Any], option: str) -> list[Any]:
        values = options.get(option) or []
        return [value["contact"] if isinstance(value, dict) else value for value in values]

    def named(self, name: str) -> list[Found]:
        """Return those of our checks that have the name."""
        return [found for found in self.by_name.get(self.provider.normal("name", name), []) if found.id in self.ours]

    def find(self, wanted: Wanted) -> Found | None:
        """Return the check: by its id, else by its name among ours. One of another type is refused."""
        found = self._find(wanted)
        if found:
            self.provider.refuse_other_type(found)
        return found

    def _find(self, wanted: Wanted) -> Found | None:
        if wanted.id is not None:
            for found in self.ours.values():
                if str(found.id) == str(wanted.id):
                    return found
            try:
                return self.provider.read(wanted.id)
            except Gone:
                return None
        same = self.named(wanted.name)
        if len(same) > 1:
            ids = ", ".join(str(found.id) for found in same)
            raise CheckError(
                f"{len(same)} checks at {self.provider.title} are named {wanted.name!r} and tagged {self.tag} (ids {ids}):"
                " delete all but one, or give an id"
            )
        return same[0] if same else None

    def ensure(self, wanted: Wanted) -> Outcome:
        """Make one check what was wanted; in check mode, tell what would be done."""
        try:
            return self._ensure(wanted)
        except ProviderError as exc:
            deleted = " was deleted to be created again, but is not yet" if exc.done[:1] == ["delete"] else ""
            exc.about = f"The {wanted.label}{deleted}: "
            raise

    def _ensure(self, wanted: Wanted) -> Outcome:
        found = self.find(wanted)
        if wanted.state == "absent":
            return self._absent(wanted, found)
        if found is None:
            if wanted.id is not None:
                raise CheckError(f"{self.provider.title} has no check with the id {wanted.id}: correct it, or find by name")
            return self._create(wanted, Outcome(wanted.name))
        return self._change(wanted, found, Outcome(wanted.name or found.name, found.id))

    def _absent(self, wanted: Wanted, found: Found | None) -> Outcome:
        outcome = Outcome(wanted.name or (found.name if found else ""), found.id if found else wanted.id)
        if found:
            outcome.actions.append("delete")
            outcome.before = shown(self.provider, {"name": found.name, "url": found.options.get("url")}, wanted)
            self._delete(found)
        return outcome

    def _delete(self, found: Found) -> None:
        if not self.check_mode:
            self.provider.delete(found)
            self.expected[found.id] = None
        self.ours.pop(found.id, None)

    def _create(self, wanted: Wanted, outcome: Outcome) -> Outcome:
        if self.provider.needs_url and not wanted.options.get("url"):
            raise CheckError(f"The {wanted.label} is not there yet, and creating it needs a url: set url")
        options = self.provider.completed({"name": wanted.name, "interval": DEFAULT_INTERVAL, **wanted.options})
        options["tags"] = sorted({*options.get("tags", []), self.tag})
        paused = wanted.state == "paused"
        outcome.actions.append("create")
        if paused:
            outcome.actions.append("pause")
        outcome.after = shown(self.provider, {**options, "paused": paused}, wanted)
        outcome.check = outcome.after
        if self.check_mode:
            return outcome
        adopted = self._create_once(wanted, options, paused, outcome)
        if adopted:
            # The reply was lost but the check is there, perhaps without all of it.
            self._change(dataclasses.replace(wanted, options=options), adopted, Outcome(wanted.name))
            outcome.id = adopted.id
        self.expected[outcome.id] = {**options, "paused": paused}
        return outcome

    def _create_once(self, wanted: Wanted, options: dict[str, Any], paused: bool, outcome: Outcome) -> Found | None:
        """Create; where the reply is lost, look for the check before trying once more."""
        # An old copy of the list may still have what was deleted.
        known = {*self.ours, *self.expected}
        for last in (False, True):
            try:
                outcome.id = self.provider.create(options, paused)
                return None
            except LostReply as lost:
                adopted = self._look(wanted, known)
                if adopted:
                    return adopted
                if last:
                    raise lost
        return None

    def _look(self, wanted: Wanted, known: set[Any]) -> Found | None:
        """Return a check of the name that wasn't there before, if one appears while it may still do so."""

        def new() -> list[Found]:
            self.load()
            return [found for found in self.named(wanted.name) if found.id not in known and found.kind == "http"]

        made = self.until(new)
        if len(made) > 1:
            ids = ", ".join(str(found.id) for found in made)
            raise CheckError(f"{self.provider.title} made {len(made)} checks {wanted.name!r} (ids {ids}): delete all but one")
        return made[0] if made else None

    def until(self, look: Callable[[], T]) -> T:
        """Look, and again while what is found is false and the provider may still be behind; return what was found last."""
        waited, delay = 0.0, 1.0
        while True:
            found = look()
            if found or waited >= self.provider.settle:
                return found
            self.provider.client.sleep(delay)
            waited, delay = waited + delay, min(delay * 2, 16.0)

    def _change(self, wanted: Wanted, found: Found, outcome: Outcome) -> Outcome:
        provider = self.provider
        options = dict(wanted.options)
        if wanted.name:
            options["name"] = wanted.name
        if "tags" in options and self.tag in found.tags:
            options["tags"] = sorted({*options["tags"], self.tag})
        comparable = set(options) - provider.write_only
        if not found.whole and not comparable <= set(found.options):
            try:
                found = provider.read(found.id)
            except Gone as exc:
                raise CheckError(
                    f"The {wanted.label} (id {found.id}) was deleted at {provider.title} meanwhile: run again"
                ) from exc
        options.update(provider.implied(options, found))
        changes = self._differing(options, found)
        provider.check_change(changes, found)
        if wanted.update_password == "always":
            changes.update({option: options[option] for option in provider.write_only if options.get(option) is not None})
        pausing = {"paused": True, "started": False}.get(wanted.state)
        paused = pausing if pausing is not None and pausing != found.paused else None
        outcome.id = found.id
        fixed = sorted(provider.fixed_among(changes, found))
        if fixed and not wanted.recreate:
            raise CheckError(
                f"{provider.title} can't change {' and '.join(fixed)} of the {wanted.label} (id {found.id}):"
                " set recreate to true to delete it with its history and create it again"
            )
        if changes:
            outcome.actions.append("recreate" if fixed else "update")
        if paused is not None:
            outcome.actions.append("pause" if paused else "start")
        self._show(wanted, found, changes, paused, outcome)
        outcome.check = shown(
            self.provider, {**found.options, **options, "paused": found.paused if paused is None else paused}, wanted
        )
        if self.check_mode or not outcome.actions:
            return outcome
        if fixed:
            return self._recreate(wanted, found, options, outcome)
        try:
            provider.update(found, changes, options, paused)
        except Gone as exc:
            raise CheckError(f"The {wanted.label} (id {found.id}) was deleted at {provider.title} meanwhile: run again") from exc
        self.expected[found.id] = options if paused is None else {**options, "paused": paused}
        if self.tag not in provider.normal("tags", options.get("tags", found.tags)):
            self.foreign.add(found.id)
        return outcome

    def _show(self, wanted: Wanted, found: Found, changes: dict[str, Any], paused: bool | None, outcome: Outcome) -> None:
        """Say in the outcome what changes, but for secrets."""
        provider = self.provider
        outcome.before = shown(provider, {o: found.options.get(o) for o in changes}, wanted)
        outcome.after = shown(provider, changes, wanted)
        if paused is not None:
            outcome.before["paused"], outcome.after["paused"] = found.paused, paused
        # Equal masks would look like no change.
        for option in set(changes) & (SECRET | provider.write_only):
            outcome.before[option], outcome.after[option] = f"{HIDDEN} (before)", f"{HIDDEN} (after)"
        if "request_headers" in changes:
            old, new = (provider.normal("request_headers", o["request_headers"]) for o in (found.options, changes))
            for name in [name for name in old.keys() & new.keys() if old[name] != new[name]]:
                if outcome.after["request_headers"][name] == HIDDEN:
                    outcome.before["request_headers"][name] = f"{HIDDEN} (before)"
                    outcome.after["request_headers"][name] = f"{HIDDEN} (after)"

    def _recreate(self, wanted: Wanted, found: Found, options: dict[str, Any], outcome: Outcome) -> Outcome:
        """Delete and create, with what the provider says about the old check where nothing else was wanted."""
        kept = {option: value for option, value in found.options.items() if value not in (None, "", [], {})}
        everything = self.provider.completed(options, kept)
        everything["tags"] = sorted({*everything.get("tags", []), *([self.tag] if self.tag in found.tags else [])})
        paused = found.paused if wanted.state == "present" else wanted.state == "paused"
        self._delete(found)
        with already("delete"):
            adopted = self._create_once(dataclasses.replace(wanted, name=everything["name"]), everything, paused, outcome)
        if adopted:
            outcome.id = adopted.id
        self.expected[outcome.id] = {**everything, "paused": paused}
        return outcome

    def _differing(self, options: dict[str, Any], found: Found) -> dict[str, Any]:
        """Return the wanted options that the found check doesn't have."""
        normal = self.provider.normal
        keyword = options.get("keyword", found.options.get("keyword"))
        skipped = self.provider.write_only if keyword else {*self.provider.write_only, *KEYWORD_DETAILS}
        changes = {}
        for option, value in options.items():
            present = found.paused if option == "paused" else found.options.get(option)
            if option in skipped:
                continue
            if present is None or normal(option, value) != normal(option, present):
                changes[option] = value
        return changes

    def surplus(self, names: set[str]) -> tuple[list[Found], list[Found]]:
        """Return the checks that are ours and whose names aren't in the list: those to prune, and those of other types."""
        kept = {found.id for name in names for found in self.named(name)}
        rest = [found for found in self.ours.values() if found.id not in kept]
        return [found for found in rest if found.kind == "http"], [found for found in rest if found.kind != "http"]

    def prune(self, names: set[str]) -> list[Outcome]:
        """Delete the checks that are ours and whose names aren't in the list; say which ones are kept for their type."""
        surplus, others = self.surplus(names)
        if others:
            listed = ", ".join(f"{found.name!r} (id {found.id}, type {found.kind})" for found in others)
            self.warn(
                f"Not pruned at {self.provider.title}, since checks of these types are not managed here: {listed};"
                f" delete them there, or take the tag {self.tag} from them."
            )
        return [self._absent(Wanted(found.name, {}, "absent"), found) for found in surplus]

    def confirm(self) -> None:
        """Wait until the provider shows what was written; warn about what it doesn't show in time."""
        if not self.wait or not self.expected:
            return
        wrong: list[str] = []

        def settled() -> bool:
            if self.expected.keys() - self.foreign:
                self.load()
            wrong[:] = filter(None, map(self._unsettled, self.expected))
            return not wrong

        self.until(settled)
        for text in wrong:
            self.warn(text)

    def _unsettled(self, check_id: Any) -> str:
        """Say what the provider shows otherwise than it was written, or nothing."""
        options, found = self.expected[check_id], self.ours.get(check_id)
        if check_id in self.foreign and options is not None:
            with contextlib.suppress(Gone):
                found = self.provider.read(check_id)
        behind = f"{self.provider.title} {{}} the check {check_id} after {self.provider.settle} s."
        if options is None:
            return behind.format("still lists") if found else ""
        if found is None:
            return behind.format("does not list yet")
        names = ", ".join(sorted(self._differing(options, found)))
        return f"{self.provider.title} shows other values than were sent for {names} of check {found.name!r}." if names else ""


def reconcile(
    engine: Reconciler, wanted: list[Wanted], prune: bool = False, prune_all: bool = False, loaded: bool = False
) -> list[Outcome]:
    """Make all checks what was wanted; one that is refused doesn't keep the others from it.

    prune_all: prune where no check is to stay, too. loaded: the list was read already.
    Raises where nothing can work (no answer, no access) with what was done until then in `outcomes` of the error.
    """
    outcomes: list[Outcome] = []
    forbidden = 0
    for item in wanted:
        engine.prepare(item)
    if not loaded and (prune or any(item.id is None for item in wanted)):
        engine.load()
    names = {item.name for item in wanted}
    # A list that came out empty by mistake looks just like one that is meant to be.
    if prune and not prune_all and all(item.state == "absent" for item in wanted):
        surplus = engine.surplus(names)[0]
        if surplus:
            listed = ", ".join(repr(found.name) for found in surplus[:MAX_NAMED]) + (", ..." if surplus[MAX_NAMED:] else "")
            raise CheckError(
                f"The list leaves no check at {engine.provider.title}, and prune would delete all that is tagged {engine.tag}"
                f" ({len(surplus)}: {listed}): correct the list, or set prune_all to true as well"
            )
    failed = False
    try:
        for item in wanted:
            try:
                outcomes.append(engine.ensure(item))
            except CheckError as exc:
                failed = True
                outcomes.append(Outcome(item.name, item.id, list(exc.done), error=str(exc)))
                # Forbidden may be one check, for the plan's sake, or all of them.
                forbidden = forbidden + 1 if isinstance(exc, ProviderError) and exc.status == 403 else 0
                if (isinstance(exc, ProviderError) and exc.concerns_all) or forbidden == MAX_FORBIDDEN:
                    raise
        if prune and not failed:
            outcomes += engine.prune(names)
        if not engine.check_mode:
            engine.confirm()
    except CheckError as exc:
        exc.outcomes = outcomes
        raise
    return outcomes
