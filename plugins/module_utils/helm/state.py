# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a Helm release to a state.

Nothing is changed before Helm has rendered the chart and the API server has tried the objects, and nothing is touched that
somebody else installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..credentials.guard import hide_logins
from ..kube import promise as promises
from ..kube.objects import Objects, difference, holds, label, load_all
from ..kube.replicas import MANAGER as FLASKOPS
from ..kube.transport import ApiError, KubeError
from ..kube.wait import without
from .begun import begun, ended, note
from .chart import Chart, Reference
from .definitions import Definitions
from .program import Helm, HelmError, credentials
from .release import MANAGER, OURS, PENDING, Release
from .workloads import settle, versions, workload

Json = dict[str, Any]

# All kinds of a cluster in one answer.
DISCOVERY = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)


@dataclass
class ReleaseWish:
    """What a release is to be; see the module `release`."""

    name: str
    namespace: str
    chart: Json | None = None
    values: Json = field(default_factory=dict)
    adopt: bool = False
    signs: list[Json] = field(default_factory=list)
    definitions: str | None = None
    version_annotation: str = ""
    skip_crds: bool = False
    same_chart: bool = False
    wait: bool = True
    timeout: int = 300
    check_mode: bool = False
    # What an option is called where the user sets it.
    called: Callable[[str], str] = str


class ReleaseState:
    """One run of the verb.

    :param helm: None where this machine has none; in check mode what needs it is not looked at then.
    """

    def __init__(self, api: Any, wish: ReleaseWish, helm: Callable[[], Helm | None]) -> None:
        self.api, self.wish, self._helm = api, wish, helm
        self.used = [Objects(api)]
        self.release = Release(self.objects, wish.namespace, wish.name)
        self.where = f"{wish.name} in namespace {wish.namespace}"
        self.actions: list[str] = []
        self.drift: list[str] = []
        self.warnings: list[str] = []
        self.lives: list[Json] = []
        self.pairs: list[tuple[Json, Json]] = []  # an object as it was applied, and as it is
        self.helm_needed = False

    @property
    def objects(self) -> Objects:
        return self.used[-1]

    def run(self, state: str) -> Json:
        """Bring the release to a state; what has changed, or in check mode would.

        :raises KubeError: with one sentence for the user, which shows no credential among the values.
        """
        try:
            return self.bring(state)
        except KubeError as error:
            raise without(error, credentials(self.wish.values)) from None

    def bring(self, state: str) -> Json:
        before = self.release.info()
        foreign = "" if self.release.is_ours(self.wish.signs) else self.release.describe()
        if foreign and state == "present" and not self.wish.adopt:
            raise KubeError(
                f"Release {self.where} is somebody else's ({foreign}), and stays as it is:"
                f" set {self.wish.called('adopt')} to true to take it over."
            )
        if state == "present":
            foreign = ""
            self.present(before)
        elif not foreign:
            self.absent(before)
        after = before if not self.actions or self.wish.check_mode else self.release.info()
        found = {name: value for name, value in after.items() if name not in ("values", "digest")}
        workloads = [made for live in self.lives if (made := workload(live))]
        return {
            "changed": bool(self.actions),
            "needed": bool(self.actions) or not all(made["ready"] for made in workloads),
            "actions": self.actions,
            "helm_needed": self.helm_needed,
            "release": found,
            "foreign": foreign,
            "drift": self.drift,
            "workloads": workloads,
            "warnings": self.warnings,
            "requests": {kind: sum(one.sent[kind] for one in self.used) for kind in self.objects.sent},
        }

    def helm(self) -> Helm | None:
        """Helm, or in check mode None where there is none.

        :raises KubeError: where it is needed.
        """
        found = self._helm()
        self.helm_needed = found is None
        if found is None and not self.wish.check_mode:
            raise KubeError("This machine has no Helm 3 or 4 in PATH: install it, or give its path as binary.")
        return found

    # Present.

    def present(self, before: Json) -> None:
        self.refuse_unfinished(before)
        chart = self.chart()
        if chart and self.wish.same_chart and before.get("chart", chart.name) != chart.name:
            raise KubeError(
                f"Release {self.where} was installed from the chart {before['chart']} and can't change to {chart.name}:"
                f" remove it with {self.wish.called('state')}=absent first, which keeps volume claims."
            )
        reasons = self.reasons(before, chart) if chart else []
        definitions = None
        if self.wish.definitions and chart:
            definitions = Definitions(self.objects, self.wish.definitions, self.wish.version_annotation)
            self.warnings += [f"The definition {name} stays as it is." for name in definitions.kept]
        if reasons and chart and (helm := self.helm()):
            self.try_values(helm, chart, before, definitions is not None and bool(definitions.todo))
        compared = self.release.compare()
        self.found(compared)
        differing = [found for found in compared if found["paths"]]
        self.drift = [f"{label(found['item'])}: {', '.join(found['paths'])}" for found in differing]

        unmarked = before["status"] != "absent" and not before["marked"]
        self.actions += [f"mark {self.wish.name} as a release of flaskops.observability"] if unmarked else []
        if before["status"] in PENDING:
            self.actions.append(f"forget revision {before['revision']} of {self.wish.name}, which stayed {before['status']}")
        self.actions += [f"apply definition {name}" for name in (definitions.applied if definitions else [])]
        self.actions += [f"repair {line}" for line in self.drift]
        if reasons:
            self.actions.append(f"{self.verb(before)} {self.wish.name} ({'; '.join(reasons)})")
        elif chart is None:
            self.actions.append(f"get the chart {hide_logins(str((self.wish.chart or {}).get('ref')))} for {self.wish.name}")
        if self.wish.check_mode:
            self.promise()
            return
        older = versions(self.objects, self.lives) if self.actions and self.wish.wait else {}
        if unmarked:
            self.release.mark()
        self.release.drop_pending()
        if definitions and definitions.todo:
            definitions.apply(self.wish.timeout)
            self.used.append(Objects(self.api))  # which knows the new kinds
        # What is missing may be a namespace's content or a kind's definition: the order is the manifest's.
        for found in differing:
            self.objects.apply(found["item"], MANAGER, self.wish.namespace)
        if reasons and chart:
            self.upgrade(cast(Helm, self.helm()), chart, before)
        if self.actions:
            self.release = Release(self.objects, self.wish.namespace, self.wish.name)
            self.found(self.release.compare())
        if self.wish.wait:
            settle(self.objects, self.lives, self.wish.timeout, older)
        self.promise()

    def found(self, compared: list[Json]) -> None:
        """Remember the objects of the release that there are."""
        self.lives = [found["live"] for found in compared if found["live"]]
        self.pairs = [(found["item"], found["live"]) for found in compared if found["live"]]

    def promise(self) -> None:
        """Write down what the release holds, for verify; that is news only where it is all that changes."""
        owner = promises.owner_named("release", self.wish.namespace, self.wish.name)
        # The manifest omits the namespace that is Helm's to fill in.
        items = [promises.agreed({**item, "metadata": {**item["metadata"], **_place(live)}}, live) for item, live in self.pairs]
        labels = {"flaskops/owner": owner, **OURS}
        wanted = promises.promise(owner, self.wish.namespace, items, labels)
        try:
            live = self.objects.get(wanted)
            if not items or (live and holds(live, wanted)):
                return
            if not self.actions:
                self.actions.append(f"write down what {self.wish.name} holds")
            if not self.wish.check_mode:
                self.objects.apply(wanted, FLASKOPS)
        except ApiError as error:
            if error.status != 403:
                raise
            self.warnings.append(f"verify can't tell whether something of {self.wish.name} is gone: {error}")

    def note(self) -> Path:
        return note(self.objects.cluster.host, self.wish.namespace, self.wish.name)

    def refuse_unfinished(self, before: Json) -> None:
        """Refuse a release that Helm may be at work on, or that only a person can finish."""
        status = before["status"]
        here = status in PENDING and ended(self.note(), before["revision"], before["age"], time.time())
        if status in PENDING and not here and before["age"] < self.wish.timeout:
            raise KubeError(
                f"Release {self.where} has been {status} for {before['age']} s,"
                f" so Helm may still be running: wait for it, or run again after {self.wish.timeout} s to clear it."
            )
        if status == "uninstalling":
            raise KubeError(
                f"Release {self.where} is half removed:"
                f" run 'helm uninstall {self.wish.name} --namespace {self.wish.namespace}', then this again."
            )

    def chart(self) -> Chart | None:
        """The chart, which Helm pulls where it is not on this machine yet.

        :raises KubeError: where it can't be obtained.
        """
        reference = Reference(**{key: value or "" for key, value in (self.wish.chart or {}).items()})
        try:
            found = reference.find()
            if found is None and (helm := self.helm()):
                found = reference.get(helm)
        except HelmError as error:
            raise KubeError(
                f"The chart {hide_logins(reference.ref)} can't be obtained ({error}):"
                f" set {self.wish.called('chart_ref')} to one that this machine reaches, a folder or an archive will do."
            ) from error
        return found

    def reasons(self, before: Json, chart: Chart) -> list[str]:
        """Why the release is not what it should be; of values the names alone."""
        if before["status"] == "absent":
            return [f"{chart.name} {chart.version}"]
        found = [] if before["status"] == "deployed" else [f"it is {before['status']}"]
        was, wanted = (before["chart"], before["chart_version"]), (chart.name, chart.version)
        if was != wanted:
            found.append(f"chart {' '.join(was)} to {' '.join(wanted)}")
        elif before["digest"] != chart.digest:
            found.append("the chart's content")
        if before["values"] != self.wish.values:
            # A null takes a default of the chart away, and no difference names it.
            found += difference(before["values"], self.wish.values, "values") or ["values"]
        return found

    def verb(self, before: Json) -> str:
        return "install" if before["status"] == "absent" else "upgrade"

    def try_values(self, helm: Helm, chart: Chart, before: Json, new_kinds: bool) -> None:
        """Have the chart rendered, and the API server asked whether it takes the objects.

        :raises KubeError: with the words of whoever refuses them.
        """
        try:
            rendered = load_all(
                chart.render(helm, self.wish.name, self.wish.namespace, self.wish.values, capabilities=self.capabilities())
            )
        except HelmError as error:
            raise KubeError(
                f"The chart {chart.name} can't take the values of release {self.wish.name}, which stays as it is ({error}):"
                " correct them."
            ) from error
        if before["status"] == "absent":
            return  # the API server knows neither its namespaces nor its kinds
        # A new version of the chart may use a field or a kind that only its own definitions have, which are applied later.
        new = new_kinds or before["chart_version"] != chart.version
        for refusal in self.objects.each(self.ask, rendered):
            if refusal is None or (new and unknown(refusal)):
                continue
            raise KubeError(
                f"The API server would refuse release {self.wish.name}, which stays as it is"
                f" ({' '.join(str(refusal).split())}): correct the values."
            )

    def capabilities(self) -> list[str]:
        """The cluster's version and kinds, for charts that ask: arguments of `helm template`, which does not look itself."""
        found = []
        try:
            version = self.objects.request("GET", "/version")["gitVersion"]
            for root in ("/api", "/apis"):
                # An older API server knows no list of all kinds, and answers with the groups alone, without items.
                for group in self.objects.request("GET", root, accept=f"{DISCOVERY},application/json").get("items") or []:
                    for each in group["versions"]:
                        place = "/".join(filter(None, (group["metadata"].get("name"), each["version"])))
                        kinds = {(one.get("responseKind") or {}).get("kind", "") for one in each.get("resources") or []}
                        found += [place, *(f"{place}/{kind}" for kind in sorted(kinds - {""}))]
        except ApiError as error:
            if error.status != 403:
                raise
            return []
        return ["--kube-version", version, *(f"--api-versions={each}" for each in found)]

    def ask(self, item: Json) -> ApiError | None:
        """Why the API server would refuse an object."""
        try:
            self.objects.apply(item, MANAGER, self.wish.namespace, dry_run=True)
        except ApiError as error:
            if not error.status:
                raise
            return error
        return None

    def upgrade(self, helm: Helm, chart: Chart, before: Json) -> None:
        """Let Helm install or upgrade the release, and mark what it began or ended."""
        options = ["--namespace", self.wish.namespace, "--reset-values", "--timeout", f"{self.wish.timeout}s", "--values", "-"]
        options += ["--skip-crds"] if self.wish.skip_crds else []
        # Where a pending one was forgotten, Helm gives the next one its number.
        revision = self.release.newest().get("version", 0) + 1
        try:
            with begun(self.note(), revision) as held:
                helm.run(
                    "upgrade",
                    "--install",
                    self.wish.name,
                    str(chart.folder),
                    *options,
                    values=self.wish.values,
                    env=self.driver(),
                    held=held,
                )
        except HelmError as error:
            raise KubeError(
                f"Helm could not {self.verb(before)} release {self.where} ({error}):"
                " correct that and run again, which continues from here."
            ) from error
        finally:
            Release(self.objects, self.wish.namespace, self.wish.name).mark()

    def driver(self) -> dict[str, str]:
        """The environment that leads Helm to the records where they are."""
        return {"HELM_DRIVER": self.release.driver} if self.release.driver else {}

    # Absent.

    def absent(self, before: Json) -> None:
        if before["status"] == "absent":
            return
        self.actions.append(f"remove {self.wish.name}")
        helm = self.helm()
        if self.wish.check_mode or helm is None:
            return
        options = ["--namespace", self.wish.namespace, "--wait", "--timeout", f"{self.wish.timeout}s"]
        try:
            helm.run("uninstall", self.wish.name, *options, env=self.driver())
        except HelmError as error:
            raise KubeError(f"Helm could not remove release {self.where} ({error}): correct that and run again.") from error
        self.release = Release(self.objects, self.wish.namespace, self.wish.name)
        if self.release.records:
            raise KubeError(f"Helm removed release {self.where}, but its record is still there: run again.")
        owner = promises.owner_named("release", self.wish.namespace, self.wish.name)
        written = promises.promise(owner, self.wish.namespace, [], {})
        if live := self.objects.get(written):
            self.objects.remove(live, "Background")
            self.objects.until_gone(live, time.monotonic() + self.wish.timeout)


def _place(live: Json) -> Json:
    space = live["metadata"].get("namespace")
    return {"namespace": space} if space else {}


def unknown(error: ApiError) -> bool:
    """Whether an API server refuses an object because it does not know a kind, a field or a namespace of it yet."""
    text = str(error)
    return "field not declared in schema" in text or (error.status == 404 and ("knows no" in text or "namespaces" in text))
