# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a list of Kubernetes objects to a state.

Nothing is changed before all of it was tried by the API server, and nothing is touched that somebody else made.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from . import autoscalers, jobs, ours, replicas
from . import promise as promises
from .objects import Objects, difference, holds, label
from .order import NEEDED, is_promise, owns_others, phase_of
from .ours import MANAGED, OWNER, Json, Key, is_labelled, is_ours, key_of, owner_of, prepared, secrets_in, shown
from .replicas import MANAGER
from .selectors import MONITORING, Finder
from .transport import ApiError, KubeError
from .wait import KINDS as WORKLOADS
from .wait import start_seconds, wait_for, without

# In a pod's template: the name of a Secret, in whose place its version stands. A new version rolls the pods out; a hash of what
# it holds would tell a weak password.
SECRET_VERSION = "flaskops/credentials-version"
# On an object that is made where it is missing, and never changed, such as a password at random.
ONCE = "flaskops/made-once"
# On a pod: when it was last to read its Secrets.
READ = "flaskops/secrets"
# What keeps a namespace: what runs, and data.
PRECIOUS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("v1", "Pod"),
    ("v1", "PersistentVolumeClaim"),
)
ON_REQUEST = (autoscalers.AUTOSCALER, jobs.KIND, "Ingress", "HTTPRoute")
RELEASES = ("Secret", "ConfigMap")  # in which Helm keeps them
RELEASE = "meta.helm.sh/release-name"
MISSING = 404


@dataclass
class Wish:
    """What a cluster is to look like; see the module `objects`."""

    owner: str
    definitions: list[Json] = field(default_factory=list)
    known: list[Json] = field(default_factory=list)
    data: list[Json] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    readers: list[Json] = field(default_factory=list)
    prune: bool = True
    adopt: bool = False
    secrets: list[Json] = field(default_factory=list)
    optional_namespaces: list[str] = field(default_factory=list)
    monitoring: str = "auto"
    monitoring_labels: Any = "auto"
    # Of what is written down of the objects, which have them already.
    labels: Json = field(default_factory=dict)
    annotations: Json = field(default_factory=dict)
    wait: bool = True
    wait_timeout: int = 120
    check_mode: bool = False
    # What an option is called where the user sets it.
    called: Callable[[str], str] = str


@dataclass(eq=False)
class Entry:
    """One object of the list, and what is known of it."""

    item: Json
    live: Json | None = None
    after: Json | None = None
    single: bool = False  # a workload of one pod at most
    secret: str = ""  # whose version its pods' template names
    made: bool = False  # by this run, before the others were tried

    @property
    def changed(self) -> bool:
        missing = self.made or self.live is None or self.after is None or jobs.has_failed(self.live)
        return missing or bool(difference(cast(Json, self.live), cast(Json, self.after), said=self.item))


class State:
    """One run of the verb."""

    def __init__(self, objects: Objects, wish: Wish) -> None:
        self.objects, self.wish = objects, wish
        self.owner = promises.owner_label(wish.owner)
        # A copy of plain types, whatever the caller's texts are.
        self.known: list[Json] = json.loads(json.dumps(wish.known, default=str))
        self.hidden = secrets_in(wish.definitions)
        self.namespaces: dict[str, Json | None] = {}
        self.coming: set[tuple[str, ...]] = set()  # kind, namespace and name of what is not there yet
        self.changes: list[str] = []
        self.scalers: list[Json] = []  # of the definitions
        self.not_applied: list[str] = []
        self.notes: list[str] = []
        self.diff: list[Json] = []

    def run(self, state: str) -> Json:
        """Bring the objects to a state; what has changed, or in check mode would.

        :raises KubeError: with one sentence for the user, which shows nothing that a Secret holds.
        """
        try:
            items = prepared(self.wish.definitions, self.owner)
            self.present(items) if state == "present" else self.absent(items)
        except KubeError as error:
            raise without(error, self.hidden) from None
        return {
            "changed": bool(self.changes),
            "changes": self.changes,
            "not_applied": self.not_applied,
            "notes": self.notes,
            "requests": self.objects.sent,
            "diff": self.diff,
        }

    # Present.

    def present(self, items: list[Json]) -> None:
        spaces = {item["metadata"]["name"]: item for item in items if item["kind"] == "Namespace"}
        items = [item for item in items if item["kind"] != "Namespace"]
        self.read_namespaces({*spaces, *(item["metadata"].get("namespace") for item in items)} - {None}, set(spaces))
        items = [item for item in items if not self.is_without_a_place(item, spaces)]
        self.objects.each(self.check_secret, self.wish.secrets)
        homes = [Entry(item, self.namespaces[name]) for name, item in spaces.items() if self.is_open(name)]
        entries = [Entry(item) for item in self.servable(items)]
        self.add_monitoring_labels(entries, spaces)
        self.objects.each(self.read, entries)
        self.refuse_others(entries)
        kept = [entry for entry in entries if entry.live and ONCE in (entry.item["metadata"].get("annotations") or {})]
        entries = [entry for entry in entries if entry not in kept]
        self.coming = {key_of(entry.item)[1:] for entry in entries if entry.live is None}
        self.scalers = [item for item in items if item["kind"] == autoscalers.AUTOSCALER]
        self.objects.each(self.number_pods, [entry for entry in entries if entry.item["kind"] in WORKLOADS[:2]])
        single = [entry.item["spec"].get("selector") for entry in entries if entry.single]
        entries = [e for e in entries if e.item["kind"] != "PodDisruptionBudget" or e.item["spec"].get("selector") not in single]
        entries += self.promised([*entries, *kept])
        try:
            self.try_all(homes, entries)
        except KubeError:
            self.delete([cast(Json, home.after) for home in homes if home.made])
            raise
        unwanted = self.unwanted({key_of(entry.item) for entry in (*entries, *kept)}, items) if self.wish.prune else []
        changed = [entry for entry in (*homes, *entries) if entry.changed]
        if not self.wish.check_mode:
            self.run_jobs(entries, unwanted)
            # It would go on setting the number of pods that is applied now.
            self.delete([live for live in unwanted if live["kind"] == autoscalers.AUTOSCALER])
            self.apply([entry for entry in changed if not entry.made], entries)
        # A promise changes with what it is about, and is no news then.
        for entry in [entry for entry in changed if not is_promise(entry.item)] or ([] if unwanted else changed):
            self.tell("changed" if entry.live else "created", entry.item, entry.live, entry.after)
        self.tell_removed(unwanted)
        if self.wish.check_mode:
            return
        self.delete([live for live in unwanted if live["kind"] != autoscalers.AUTOSCALER])
        if any(entry.item["kind"] == "Secret" for entry in changed):
            self.objects.each(self.have_read, self.wish.readers)
        if self.wish.wait:
            workloads = [cast(Json, entry.after) for entry in entries if entry.item["kind"] in WORKLOADS]
            self.objects.each(lambda e: wait_for(self.objects, e, self.wish.wait_timeout + start_seconds(e)), workloads)

    def promised(self, entries: list[Entry]) -> list[Entry]:
        """What is to be written down of the objects: nothing where they are none of a namespace's, or a part of a whole."""
        spaces = sorted(space for entry in entries if (space := entry.item["metadata"].get("namespace")))
        if not spaces or not self.wish.prune:
            return []
        labels = {**self.wish.labels, OWNER: self.owner, MANAGED: MANAGER}
        home = max(spaces, key=spaces.count)
        lasting = [entry.item for entry in entries if entry.item["kind"] != jobs.KIND]
        entry = Entry(promises.promise(self.owner, home, lasting, labels))
        if self.wish.annotations:
            entry.item["metadata"]["annotations"] = dict(self.wish.annotations)
        ours.write_texts(entry.item["metadata"])
        self.read(entry)
        return [entry]

    def tell(self, what: str, item: Json, before: Json | None, after: Json | None) -> None:
        self.changes.append(f"{what} {label(item)}")
        wanted = None if what == "removed" else after or item
        self.diff.append({"before": shown(before), "after": shown(wanted, before), "name": label(item)})

    def tell_removed(self, gone: list[Json]) -> None:
        for live in [live for live in gone if not is_promise(live)] or gone:
            self.tell("removed", live, live, None)

    def read_namespaces(self, names: set[str], wanted: set[str]) -> None:
        """Find the namespaces.

        :raises KubeError: for one that can't take objects.
        """
        ordered = sorted(names)
        for name, live in zip(ordered, self.objects.each(self.namespace, ordered), strict=True):
            self.namespaces[name] = live
            if live is None and name not in wanted and name not in self.wish.optional_namespaces:
                option = self.wish.called("create_namespace")
                advice = f"create it, or set {option} to true" if option != "create_namespace" else "create it first"
                raise KubeError(f"Namespace {name} does not exist: {advice}.")
            if live is not None and live["status"].get("phase") == "Terminating":
                raise KubeError(f"Namespace {name} is being deleted: run again when it is gone.")

    def namespace(self, name: str) -> Json | None:
        try:
            return self.objects.get({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        except ApiError as error:
            raise KubeError(
                f"Namespace {name} can't be read ({error.status or 'no answer'}: {error}):"
                " check that the cluster runs, that the context exists, and that the account may read namespaces."
            ) from error

    def is_without_a_place(self, item: Json, spaces: dict[str, Json]) -> bool:
        """Whether the namespace of an object is missing, and may be."""
        name = item["metadata"].get("namespace")
        if name not in self.wish.optional_namespaces or name in spaces or self.namespaces[name] is not None:
            return False
        self.not_applied.append(f"{label(item)}: there is no namespace {name}")
        return True

    def check_secret(self, wanted: Json) -> None:
        """Refuse a Secret that is missing, lacks a key or is of another type; of one that may not be read nothing is known."""
        name, space = wanted["name"], wanted["namespace"]
        if self.namespaces.get(space, {}) is None and self.wish.check_mode:
            return  # whoever makes the Secret needs the namespace first
        try:
            found = self.objects.get({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": space}})
        except ApiError as error:
            if error.status in (401, 403):
                return
            raise
        if found and wanted.get("type") not in (None, "", found.get("type")):
            is_of = f"Secret {name} in namespace {space} is of the type {found.get('type')}"
            raise KubeError(f"{is_of} and not {wanted['type']}: make it again, as that can't be changed.")
        missing = sorted(set(wanted.get("keys") or []) - set((found or {}).get("data") or {}))
        if found is None or missing:
            problem = f"has no key {' and '.join(missing)}" if found else "does not exist"
            raise KubeError(f"Secret {name} in namespace {space} {problem}: create it with the keys that the options name.")

    def is_open(self, name: str) -> bool:
        """Whether a namespace is ours, or would be."""
        live = self.namespaces[name]
        return live is None or is_labelled(live)

    def servable(self, items: list[Json]) -> list[Json]:
        """The objects of kinds that the cluster knows; the others are skipped, or refused.

        :raises KubeError: for a kind that has to be there.
        """
        self.objects.each(lambda version: self.objects.resource(version, ""), sorted({item["apiVersion"] for item in items}))
        found = []
        for item in items:
            optional = item["apiVersion"].startswith(f"{MONITORING}/")
            if optional and self.wish.monitoring == "never":
                continue
            resource = self.objects.resource(item["apiVersion"], item["kind"])
            if resource is None and optional and self.wish.monitoring == "auto":
                self.not_applied.append(f"{label(item)}: the cluster knows no {item['kind']}")
                continue
            if resource is None and not self.wish.check_mode:  # which may come before what installs the definition
                unknown, option = f"the cluster knows no {item['kind']} of {item['apiVersion']}", self.wish.called("monitoring")
                if optional:
                    advice = f"install kube_prometheus_stack first, or set {option} to auto"
                    raise KubeError(f"{option} is {self.wish.monitoring}, and {unknown}: {advice}.")
                raise KubeError(f"{label(item)} can't be made, for {unknown}: install its definition first.")
            if resource and resource[1] and not item["metadata"].get("namespace"):
                raise KubeError(f"{label(item)} has no metadata.namespace: name the namespace that it is for.")
            if resource and not resource[1]:
                # The server ignores it, and what is there has none.
                item["metadata"].pop("namespace", None)
            found.append(item)
        return found

    def add_monitoring_labels(self, entries: list[Entry], spaces: dict[str, Json]) -> None:
        """Give the operator's objects the labels that the cluster's Prometheus selects, or those that were named."""
        mine = [entry.item for entry in entries if entry.item["apiVersion"].startswith(f"{MONITORING}/")]
        given = self.wish.monitoring_labels
        finder = Finder(self.objects) if mine and given == "auto" else None
        for item in mine:
            labels, reason = given, ""
            if finder:
                name = item["metadata"]["namespace"]
                labels, reason = finder.labels(item, self.namespaces[name] or spaces[name])
            item["metadata"]["labels"].update(labels)
            if reason:
                self.notes.append(f"{label(item)} is watched by no Prometheus: {reason}")

    def read(self, entry: Entry) -> None:
        space = entry.item["metadata"].get("namespace")
        if space is None or self.namespaces[space] is not None:
            entry.live = self.objects.get(entry.item)

    def refuse_others(self, entries: list[Entry]) -> None:
        """Refuse to take what somebody else made.

        :raises KubeError: with all names.
        """
        found = []
        for entry in entries if not self.wish.adopt else []:
            if entry.live is None:
                continue
            other = owner_of(entry.live)
            manager = (entry.live["metadata"].get("labels") or {}).get(MANAGED)
            if not is_ours(entry.live):
                found.append(f"{label(entry.live)}{f' (of {manager})' if manager else ''}")
            elif other not in ("", owner_of(entry.item)):
                found.append(f"{label(entry.live)} (of {other})")
            elif environment := ours.another_environment(entry.item, entry.live):
                found.append(f"{label(entry.live)} (of the environment {environment})")
        if found:
            raise KubeError(
                f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} somebody else's:"
                f" use another name, or set {self.wish.called('adopt')} to true to take over what is there."
            )

    def refuse_another_environment(self, items: list[Json], going: list[Json]) -> None:
        """Refuse to remove what was deployed for another environment.

        :raises KubeError: with the first.
        """
        wanted = {key_of(item): item for item in items}
        for live in going if not self.wish.adopt else []:
            item = wanted.get(key_of(live))
            if item and (environment := ours.another_environment(item, live)):
                raise KubeError(
                    f"{label(live)} is of the environment {environment}, so nothing is removed: remove it by the inventory of"
                    f" {environment}, or set {self.wish.called('adopt')} to true."
                )

    def number_pods(self, entry: Entry) -> None:
        """Leave the number of pods to whoever sets it."""
        spec, live = entry.item["spec"], entry.live
        wanted = spec.pop("replicas", None)
        own = autoscalers.among(self.scalers, entry.item)
        scaler = own
        if live is not None or wanted is not None:
            found = self.other_scaler(entry.item, own)
            scaler = own or (replicas.scaler_of(live, found) if live else found or "")
        # A HorizontalPodAutoscaler does nothing for a workload of 0 pods.
        number = replicas.number(live, wanted, scaler) if live and (live["spec"]["replicas"] or not own) else wanted
        if number is not None:
            spec["replicas"] = number
        if live and not own and (note := replicas.explanation(live, wanted, scaler)):
            self.notes.append(note)
        # Of pods whose number is not ours there may be several at any time.
        entry.single = wanted is not None and wanted < 2 and not scaler

    def other_scaler(self, item: Json, own: str) -> str | None:
        """The autoscaler of a workload that stays and is not among the definitions; empty for none, None where none can be told.

        :param own: the one that is among them.
        :raises KubeError: where both would set the number.
        """
        meta = item["metadata"]
        found = autoscalers.targeting(self.objects.ask, meta["namespace"], meta["name"], item["kind"])
        if found is None:
            return None
        staying = [each for each in found if owner_of(each) != self.owner or not self.wish.prune]
        others = [each for each in staying if autoscalers.named(each) != own]
        if own and others:
            raise KubeError(
                f"{autoscalers.named(others[0])} sets the number of pods of {label(item)} already:"
                f" remove it, or leave {self.wish.called('autoscale')} out."
            )
        return next(map(autoscalers.named, others), "")

    def try_all(self, homes: list[Entry], entries: list[Entry]) -> None:
        """Have the API server say what each object would become, which changes nothing but namespaces that are missing.

        :raises KubeError: for the first that it refuses.
        """
        self.objects.each(self.attempt, [home for home in homes if home.live])
        for home in homes:
            if home.live is None and not self.wish.check_mode:
                # Without it nothing in it can be tried.
                home.after = self.namespaces[home.item["metadata"]["name"]] = self.objects.apply(home.item, MANAGER)
                home.made = True
        for phase in sorted({phase_of(entry.item) for entry in entries}):
            now = [entry for entry in entries if phase_of(entry.item) == phase]
            self.write_versions(now, entries, "new")
            self.objects.each(self.attempt, now)

    def attempt(self, entry: Entry) -> None:
        item = entry.item
        space = item["metadata"].get("namespace")
        if (space and self.namespaces[space] is None) or self.objects.resource(item["apiVersion"], item["kind"]) is None:
            return  # check mode: what it would be in has yet to come
        try:
            entry.after = self.objects.apply(item, MANAGER, dry_run=True)
        except ApiError as error:
            if is_promise(item) and error.status == 403:
                self.notes.append(f"verify can't tell what was promised from what was never installed ({error})")
                entry.live = entry.after = item  # stays as it is
            elif error.status not in (403, MISSING) or not self.binds_a_new_role(item):
                raise

    def binds_a_new_role(self, item: Json) -> bool:
        """Whether an object is a binding that may be refused for nothing but its role, which has yet to come."""
        role, space = item.get("roleRef") or {}, item["metadata"].get("namespace") or ""
        return (role.get("kind"), "" if role.get("kind") == "ClusterRole" else space, role.get("name")) in self.coming

    def write_versions(self, now: list[Entry], entries: list[Entry], new: str = "") -> None:
        """Write the version of a Secret into the pods' templates that ask for it.

        :param new: stands for the version of one that has yet to be applied.
        """
        secrets = {key_of(entry.item)[2:]: entry for entry in entries if entry.item["kind"] == "Secret"}
        for entry in now:
            notes = (entry.item.get("spec", {}).get("template", {}).get("metadata") or {}).get("annotations") or {}
            if entry.item["kind"] not in WORKLOADS or SECRET_VERSION not in notes:
                continue
            entry.secret = entry.secret or notes[SECRET_VERSION]
            secret = secrets.get((entry.item["metadata"]["namespace"], entry.secret))
            if secret is None:
                raise KubeError(
                    f"{label(entry.item)} names the Secret {entry.secret}, which is not among the definitions: add it."
                )
            waiting = secret.after is None or (new and secret.changed)
            notes[SECRET_VERSION] = new if waiting else cast(Json, secret.after)["metadata"]["resourceVersion"]

    def apply(self, changed: list[Entry], entries: list[Entry]) -> None:
        for phase in sorted({phase_of(entry.item) for entry in changed}):
            now = [entry for entry in changed if phase_of(entry.item) == phase]
            self.write_versions(now, entries)
            self.objects.each(self.bring, now)

    def run_jobs(self, entries: list[Entry], unwanted: list[Json]) -> None:
        """Apply the Jobs and what they may need, and wait until they have succeeded. Nothing else is touched before.

        :param unwanted: among which are Jobs of other versions; none of these may go on beside a new one.
        """
        running = [entry for entry in entries if entry.item["kind"] == jobs.KIND]
        needed = [e for e in entries if running and e.changed and phase_of(e.item) == NEEDED and not e.made]
        again = [entry for entry in running if entry.changed]
        earlier = jobs.wait_for_earlier(self.objects, unwanted if again else [], self.wish.wait_timeout)
        # One that has not begun would do so later.
        self.delete(earlier + [cast(Json, entry.live) for entry in again if entry.live and jobs.has_failed(entry.live)])
        for now in (needed, again):
            self.objects.each(self.bring, now)
            for entry in now:
                entry.made = True
        self.objects.each(lambda e: jobs.wait_for_job(self.objects, e.after, self.wish.wait_timeout), running)

    def bring(self, entry: Entry) -> None:
        entry.after = self.objects.apply(entry.item, MANAGER)

    def have_read(self, readers: Json) -> None:
        """Have kubelet bring changed Secrets to pods now, where it would take a minute or two."""
        note = {"metadata": {"annotations": {READ: datetime.datetime.now(datetime.UTC).isoformat()}}}
        for pod in self.objects.listed("v1", "Pod", readers["namespace"], readers["selector"]):
            try:
                self.objects.request("PATCH", str(self.objects.path(pod)), None, note, "application/merge-patch+json")
            except ApiError as error:
                if error.status != MISSING:  # the pod has gone meanwhile
                    raise

    # Absent.

    def unwanted(self, wanted: set[Key], items: list[Json]) -> list[Json]:
        """The live objects of this owner that are not wanted."""
        named = {key_of(item): item for item in (*items, *self.known, *self.promises(items)) if item["kind"] != "Namespace"}
        named = {key: item for key, item in named.items() if key not in wanted}
        found = [live for live in self.objects.each(self.live_of, list(named.values())) if live is not None]
        places = {
            (item["apiVersion"], item["kind"], item["metadata"].get("namespace") or "")
            for item in (*items, *self.known)
            if item["kind"] != "Namespace"
        }
        for listed in self.objects.each(self.labelled, sorted(places)):
            found += listed
        owners = {key: owner_of(item) or self.owner for key, item in named.items()}
        mine = {key_of(i): i for i in found if is_ours(i) and owner_of(i) in ("", owners.get(key_of(i), self.owner))}
        return [live for key, live in sorted(mine.items()) if key not in wanted]

    def live_of(self, item: Json) -> Json | None:
        """The live object of a name; an account that may not read what a role makes on request alone has made none."""
        try:
            return self.objects.get(item)
        except ApiError as error:
            if error.status != 403 or item["kind"] not in ON_REQUEST:
                raise
            return None

    def promises(self, items: list[Json]) -> list[Json]:
        """Where this owner's promise may be."""
        spaces = {item["metadata"].get("namespace") for item in (*items, *self.known)} - {None, ""}
        return [promises.promise(self.owner, str(space), [], {OWNER: self.owner, MANAGED: MANAGER}) for space in sorted(spaces)]

    def labelled(self, place: tuple[str, str, str]) -> list[Json]:
        try:
            return self.objects.listed(*place, f"{OWNER}={self.owner}")
        except ApiError as error:
            if error.status != 403:  # what an account may not list it removes by name
                raise
            return []

    def delete(self, live: list[Json]) -> None:
        """Remove objects, and return when they are gone."""
        deadline = time.monotonic() + self.wish.wait_timeout
        for phase in sorted({phase_of(item) for item in live}, reverse=True):
            now = [item for item in live if phase_of(item) == phase]
            self.objects.each(lambda item: self.objects.remove(item, "Foreground" if owns_others(item) else "Background"), now)
            self.objects.each(lambda item: self.objects.until_gone(item, deadline), now)

    def absent(self, items: list[Json]) -> None:
        spaces = {item["metadata"]["name"] for item in (*items, *self.known) if item["kind"] == "Namespace"}
        ordered = sorted(spaces)
        homes = dict(zip(ordered, self.objects.each(self.namespace, ordered), strict=True))
        unwanted = self.unwanted(set(), items)
        self.refuse_another_environment(items, unwanted)
        unwanted += [live for found in self.objects.each(self.beside, self.wish.data) for live in found]
        going = [live for live in homes.values() if live is not None and is_labelled(live) and self.is_empty(live, unwanted)]
        self.tell_removed([*unwanted, *going])
        if not self.wish.check_mode:
            self.delete(unwanted)
            self.delete(going)

    def beside(self, data: Json) -> list[Json]:
        """What somebody made of our objects, and leaves, such as the claims of a StatefulSet."""
        path = self.objects.collection(data["apiVersion"], data["kind"], data.get("namespace") or "")
        if path is None:
            return []
        query = {"labelSelector": data["selector"]} if data.get("selector") else None
        found = [
            {"apiVersion": data["apiVersion"], "kind": data["kind"], **i}
            for i in self.objects.request("GET", path, query)["items"]
        ]
        return [
            live
            for live in found
            if re.fullmatch(data.get("name") or ".*", live["metadata"]["name"]) and holds(live, data.get("holds") or {})
        ]

    def is_released(self, item: Json) -> bool:
        """Whether an object is a release that check mode has not removed, or a part of one."""
        meta = item["metadata"]
        labels = meta.get("labels") or {}
        release = labels.get("name") if labels.get("owner") == "helm" else (meta.get("annotations") or {}).get(RELEASE)
        return release in self.wish.releases

    def is_empty(self, space: Json, going: list[Json]) -> bool:
        """Whether nothing runs in a namespace, and no data and no release of Helm is in it, but what goes anyway."""
        name = space["metadata"]["name"]
        gone = {key_of(live) for live in going}

        def listed(kind: tuple[str, ...]) -> list[Json]:
            try:
                return self.objects.listed(kind[0], kind[1], name, *kind[2:])
            except ApiError as error:
                if error.status != 403:
                    raise
                return [{"apiVersion": kind[0], "kind": kind[1], "metadata": {"name": "that this account may not list"}}]

        stores = [("v1", kind, "owner=helm") for kind in RELEASES]
        for item in (item for found in self.objects.each(listed, [*PRECIOUS, *stores]) for item in found):
            meta = item["metadata"]
            if meta.get("ownerReferences") or key_of(item) in gone or (self.wish.check_mode and self.is_released(item)):
                continue
            self.notes.append(f"namespace {name} stays, because {item['kind']} {meta['name']} is in it")
            return False
        return True
