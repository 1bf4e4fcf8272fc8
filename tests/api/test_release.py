# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release from an empty namespace to nothing left, with real Helm and a real API server.

FLASKOPS_HELM4 is the path of a Helm 4, with which the same is seen.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import http.server
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.helm.program import Helm, reaching
from ansible_collections.flaskops.observability.plugins.module_utils.helm.release import Release
from ansible_collections.flaskops.observability.plugins.module_utils.helm.state import ReleaseState, ReleaseWish
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeError

from tests.api_rig import CONTEXT, Rig
from tests.harness import ROOT, clean_environment, over, playbook, processes, until
from tests.node import kill
from tests.toolchain import programs

CANARY = "hunter2-of-the-values"
TEMPLATES = {
    "config.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-config"}
data: {word: {{ .Values.word | quote }}, password: {{ .Values.password | quote }}}
""",
    "deployment.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: 0
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: a, image: a, ports: [{containerPort: {{ .Values.port }}}]}]}
""",
    # No API server takes it; only `helm test` would ask one.
    "hook.yaml": """\
apiVersion: release.test/v1
kind: Nonsense
metadata: {name: hook, annotations: {helm.sh/hook: test}}
""",
    "fail.yaml": '{{ if eq .Values.word "bad" }}{{ fail (printf "no word for %s" .Values.password) }}{{ end }}\n',
}
DEFINITION = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.release.test, annotations: {operator.prometheus.io/version: "VERSION"}}
spec:
  group: release.test
  scope: Namespaced
  names: {kind: Thing, plural: things, singular: thing, listKind: ThingList}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
"""


def write_chart(folder: Path, version: str = "1.0.0", name: str = "small") -> Path:
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: {version}\n")
    (folder / "values.yaml").write_text("word: first\npassword: ''\nport: 80\n")
    for file, text in TEMPLATES.items():
        (folder / "templates" / file).write_text(text)
    return folder


@dataclass
class Site:
    """A namespace, a chart, and Helm."""

    rig: Rig
    folder: Path
    binary: Path
    env: dict[str, str]
    namespace: str
    values: dict[str, Any] = field(default_factory=lambda: {"word": "second", "password": CANARY})

    def bring(self, state: str = "present", **options: Any) -> dict[str, Any]:
        """Bring the release `web` to a state, and return what was done."""
        given = {"chart": {"ref": str(self.folder / "small")}, "values": self.values, "timeout": 60, **options}
        wish = ReleaseWish("web", self.namespace, version_annotation="operator.prometheus.io/version", **given)
        found = ReleaseState(self.rig.api, wish, lambda: Helm(str(self.binary), self.env)).run(state)
        assert CANARY not in json.dumps(found)
        return found

    def refused(self, **options: Any) -> str:
        """Why it can't be, before anything changes."""
        before = self.versions()
        with pytest.raises(KubeError) as error:
            self.bring(**options)
        assert self.versions() == before
        assert CANARY not in str(error.value)
        return str(error.value)

    def versions(self) -> dict[str, str]:
        found = self.rig.versions(*(f"/api/v1/namespaces/{self.namespace}/{kind}" for kind in ("configmaps", "secrets")))
        # A controller writes a Deployment's status.
        for item in self.rig.request("GET", f"/apis/apps/v1/namespaces/{self.namespace}/deployments")["items"]:
            found[f"deployment {item['metadata']['name']}"] = item["metadata"]["generation"]
        return found

    def helm(self, *arguments: str) -> None:
        """As a person does it."""
        env = {**os.environ, **self.env}
        command = [self.binary, *arguments, "--namespace", self.namespace]
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=env)

    def play(self) -> Path:
        """A playbook that brings the release to its state."""
        options = {
            "kubeconfig": str(self.rig.kubeconfig()),
            "context": CONTEXT,
            "name": "web",
            "namespace": self.namespace,
            "chart": {"ref": str(self.folder / "small")},
            "values": self.values,
            "binary": str(self.binary),
        }
        tasks = [{"name": "Release", "flaskops.observability.release": options}]
        path = self.folder / "play.yml"
        path.write_text(yaml.safe_dump([{"name": "Release", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
        return path

    def patch(self, path: str, body: dict[str, Any]) -> None:
        self.rig.request("PATCH", path.replace("NAMESPACE", self.namespace), body, "application/merge-patch+json")

    def release(self) -> Release:
        return Release(Objects(self.rig.api), self.namespace, "web")

    def leave_pending(self) -> None:
        """As a Helm leaves an upgrade that was killed long ago."""
        record = self.release().records[-1]
        content = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(record["data"]["release"]))))
        content["version"] += 1
        content["info"] |= {"status": "pending-upgrade", "last_deployed": "2026-01-02T03:04:05+01:00"}
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
        version = str(content["version"])
        labels = record["metadata"]["labels"] | {"status": "pending-upgrade", "version": version}
        meta = {"name": f"sh.helm.release.v1.web.v{version}", "labels": labels}
        body = {"metadata": meta, "type": record["type"], "data": {"release": packed}}
        self.rig.request("POST", f"/api/v1/namespaces/{self.namespace}/secrets", body)


HELMS = ["helm", pytest.param("helm4", marks=pytest.mark.skipif("FLASKOPS_HELM4" not in os.environ, reason="no FLASKOPS_HELM4"))]


@pytest.fixture(params=HELMS)
def site(rig: Rig, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    binary = programs("helm") / "helm" if request.param == "helm" else Path(os.environ["FLASKOPS_HELM4"])
    write_chart(tmp_path / "small")
    namespace = f"release-{request.node.name.rpartition('[')[0].removeprefix('test_').replace('_', '-')[:40]}-{request.param}"
    rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    with reaching(str(rig.kubeconfig()), CONTEXT) as env:
        yield Site(rig, tmp_path, binary, env, namespace)


def test_from_nothing_to_nothing(site: Site) -> None:
    """Each step, what it does, and that the same once more has nothing to do."""
    empty = site.versions()
    config, deployment = (
        "/api/v1/namespaces/NAMESPACE/configmaps/web-config",
        "/apis/apps/v1/namespaces/NAMESPACE/deployments/web",
    )

    def newer() -> None:
        write_chart(site.folder / "small", "1.1.0")

    def other_template() -> None:
        (site.folder / "small/templates/more.yaml").write_text("# nothing\n")

    # What happens before the step, its options, and what each of its actions begins with.
    steps: list[tuple[Callable[[], Any] | None, dict[str, Any], list[str]]] = [
        (None, {}, ["install web (small 1.0.0"]),
        (lambda: site.patch(config, {"data": {"word": "by hand"}}), {}, ["repair ConfigMap web-config: data.word"]),
        (lambda: site.rig.remove(config.replace("NAMESPACE", site.namespace)), {}, ["repair ConfigMap web-config: (missing)"]),
        (lambda: site.patch(deployment, {"spec": {"replicas": 3}}), {}, ["repair Deployment web: spec.replicas"]),
        (lambda: site.values.update(word="third"), {}, ["upgrade web (values.word)"]),
        (newer, {}, ["upgrade web (chart small 1.0.0 to small 1.1.0)"]),
        (other_template, {}, ["upgrade web (the chart's content)"]),
        (site.leave_pending, {}, ["forget revision", "upgrade web (it is pending-upgrade)"]),
        (None, {"state": "absent"}, ["remove web"]),
    ]
    for prepare, options, expected in steps:
        if prepare:
            prepare()
        before = site.versions()
        planned = site.bring(**options, check_mode=True)
        assert site.versions() == before and planned["requests"]["writes"] == 0
        done = site.bring(**options)
        for found in (planned, done):
            assert found["changed"] and len(found["actions"]) == len(expected), found
            assert all(action.startswith(word) for action, word in zip(found["actions"], expected, strict=True)), found
        if options:
            break
        for check_mode in (False, True):
            again = site.bring(check_mode=check_mode)
            assert (again["changed"], again["requests"]["writes"], again["drift"]) == (False, 0, [])
            assert (again["release"]["status"], again["release"]["marked"]) == ("deployed", True)
        assert [made["name"] for made in again["workloads"]] == ["web"] and again["workloads"][0]["ready"]
    assert not site.bring("absent")["changed"]
    assert site.versions() == empty


def test_of_somebody_else(site: Site) -> None:
    site.helm("install", "web", str(site.folder / "small"))
    said = site.refused()
    assert "is somebody else's (chart small 1.0.0, revision 1 of" in said and "adopt" in said
    before = site.versions()
    left = site.bring("absent", adopt=True)
    assert not left["changed"] and "chart small 1.0.0" in left["foreign"]
    assert site.versions() == before
    taken = site.bring(adopt=True)
    assert taken["actions"][0].startswith("mark web") and not taken["foreign"]
    assert not site.bring()["changed"]
    assert site.bring("absent")["actions"] == ["remove web"]


def test_in_the_other_store(site: Site) -> None:
    """Helm is led to the records where they are."""
    site.env["HELM_DRIVER"] = "configmap"
    site.helm("install", "web", str(site.folder / "small"))
    del site.env["HELM_DRIVER"]
    assert site.bring(adopt=True)["changed"] and site.release().driver == "configmap"
    assert not site.bring()["changed"]
    assert site.bring("absent")["changed"] and not site.release().records


def test_refused(site: Site) -> None:
    """By whoever knows best, in its own words and without a value."""
    site.bring()
    (site.folder / "bare").mkdir()
    nowhere = "oci://127.0.0.1:1/nothing"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"values": {**site.values, "word": "bad"}}, "no word for ***"),
        ({"values": {**site.values, "port": 99999}}, "Deployment web is refused"),
        ({"chart": {"ref": nowhere, "version": "1"}}, f"{nowhere} can't be obtained"),
        ({"chart": {"ref": str(site.folder / "bare")}}, "holds no Chart.yaml"),
    ]
    for options, expected in cases:
        assert expected in site.refused(**options)
        assert expected in site.refused(**options, check_mode=True)
    site.leave_pending()
    assert "pending-upgrade for" in site.refused(timeout=10**9)


def test_definitions(site: Site) -> None:
    """They come with the release, and an older one takes the place of none."""
    folder = site.folder / "crds"
    folder.mkdir()

    def write(version: str) -> None:
        (folder / "things.yaml").write_text(DEFINITION.replace("VERSION", version))

    name = "things.release.test"
    write("0.2.0")
    expected = [f"apply definition {name} (missing)", "install web (small 1.0.0)"]
    assert site.bring(definitions=str(folder), check_mode=True)["actions"] == expected
    assert site.bring(definitions=str(folder))["actions"] == expected
    assert not site.bring(definitions=str(folder))["changed"]
    write("0.1.0")
    kept = site.bring(definitions=str(folder))
    assert not kept["changed"] and name in kept["warnings"][0] and "0.2.0 is newer than 0.1.0" in kept["warnings"][0]
    write("0.3.0")
    assert site.bring(definitions=str(folder))["actions"] == [f"apply definition {name} (0.2.0 to 0.3.0)"]
    site.rig.remove(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")


def test_chart_from_everywhere(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same release, whether the chart is a folder, an archive or in a repository, and found again without Helm."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(site.folder / "cache"))
    archive = site.folder / "small-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(site.folder / "small", "small")
    entry = {"apiVersion": "v2", "name": "small", "version": "1.0.0", "urls": [archive.name]}
    index = {"apiVersion": "v1", "entries": {"small": [entry]}}
    (site.folder / "index.yaml").write_text(yaml.safe_dump(index))
    site.bring()
    assert not site.bring(chart={"ref": str(archive)})["changed"]
    with serving(site.folder) as address:
        chart = {"ref": "small", "repository": address, "version": "1.0.0"}
        assert not site.bring(chart=chart)["changed"]
    assert not site.bring(chart=chart)["changed"]
    assert not list((site.folder / "cache").rglob(".draft-*"))


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A repository of charts."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_action(site: Site) -> None:
    """The options are read, a difference shows what is done, and a host that is reached otherwise is refused."""
    path = site.play()
    shown = playbook(str(path), "--check", "--diff", inventory=("-i", "localhost,", "-c", "local"))
    assert shown.changed == 1 and "+install web (small 1.0.0)" in shown.stdout and not site.release().records
    assert playbook(str(path), inventory=("-i", "localhost,", "-c", "local")).changed == 1
    far = playbook(str(path), inventory=("-i", "far.test,", "-c", "ssh"))
    assert "far.test" in far.error and "ansible_connection to local" in far.error


def test_a_helm_that_was_killed_here_is_known_to_have_ended(site: Site) -> None:
    """One that works on, also without the run that began it, is left to its work."""
    job = {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}}
    hook = {"helm.sh/hook": "pre-upgrade", "helm.sh/hook-delete-policy": "before-hook-creation"}
    meta = {"name": "before", "annotations": hook}
    text = yaml.safe_dump({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, **job})
    (site.folder / "small/templates/before.yaml").write_text("{{ if .Values.hook }}\n" + text + "{{ end }}\n")
    site.bring()
    site.values["hook"] = True
    command = ["ansible-playbook", str(site.play()), "-i", "localhost,", "-c", "local"]
    env = clean_environment() | {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        until(lambda: site.release().info()["status"] == "pending-upgrade", 60, "Helm at work")
        found = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in processes(run.pid)}
        (helm,) = [pid for pid, words in found.items() if words[0] == str(site.binary).encode() and b"upgrade" in words]
        assert "so Helm may still be running" in site.refused()
        kill(found.keys() - {helm})
    assert "so Helm may still be running" in site.refused()
    kill([helm])
    site.values["hook"] = False
    until(lambda: over(helm), 10, "the end of Helm")
    assert site.bring()["actions"][0] == "forget revision 2 of web, which stayed pending-upgrade"
    assert site.release().info()["status"] == "deployed"
    assert not site.bring()["changed"]


def test_a_list_is_what_it_holds(site: Site) -> None:
    """As kube-prometheus-stack makes one of additionalServiceMonitors; Helm applies what is in it."""
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}} for name in ("one", "two")]
    for kind in ("List", "ConfigMapList"):
        text = yaml.safe_dump({"apiVersion": "v1", "kind": kind, "items": items})
        (site.folder / "small/templates/list.yaml").write_text(text)
        assert site.bring()["changed"]
        assert not site.bring()["changed"]
    site.patch("/api/v1/namespaces/NAMESPACE/configmaps/two", {"data": {"a": "2"}})
    assert site.bring()["drift"] == ["ConfigMap two: data.a"]
    site.values.update(word="third")
    assert site.bring()["actions"] == ["upgrade web (values.word)"]
    assert site.bring("absent")["changed"]


def test_a_port_by_hand(site: Site) -> None:
    """Server-side apply knows it by its number, so that it stays beside the release's with the same name."""
    for port in ({"name": "http", "port": 80}, {"port": 80}):
        service = {"selector": {"app": "a"}, "ports": [port]}
        made = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service}
        (site.folder / "small/templates/service.yaml").write_text(yaml.safe_dump(made))
        site.bring()
        site.patch("/api/v1/namespaces/NAMESPACE/services/web", {"spec": {"ports": [{**port, "port": 81, "targetPort": 80}]}})
        for check_mode in (True, False):
            assert site.bring(check_mode=check_mode)["drift"] == ["Service web: spec.ports[0].port"]
        assert not site.bring()["changed"]
    made["spec"] = {"ports": [{"name": "twice", "port": 80}, {"name": "twice", "port": 81}]}
    made["metadata"] = {"name": "new"}
    (site.folder / "small/templates/service.yaml").write_text(yaml.safe_dump(made))
    assert "Service new is refused" in (said := site.refused()) and "Duplicate value" in said
    assert site.bring("absent", chart=None)["changed"]


def test_chart_is_read_as_helm_reads_it(site: Site) -> None:
    """What it ignores is none of the chart's content, what templates may read is; and a scalar is what Go takes it for."""
    chart = site.folder / "small"
    scalars = "{day: 2024-04-01, at: 12:30, mode: 0o644, old: 0644, big: 1e3, whole: 1.0, sign: =, none: , 80: a, 443: b, c: yes}"
    note = "{apiVersion: v1, kind: ConfigMap, metadata: {name: note, annotations: {day: 2024-04-01, at: 12:30}}}\n"
    (chart / "values.yaml").write_text(f"word: first\npassword: ''\nport: 80\nscalars: {scalars}\n")
    (chart / "templates/note.yaml").write_text(note)
    (chart / ".helmignore").write_text("# of an editor\n*~\n/drafts/\n")
    (chart / "drafts").mkdir()
    for name in ("templates/.DS_Store", "templates/note.yaml~", "drafts/one.txt", "read.txt"):
        (chart / name).write_text("\ufeffone\n")
    site.bring()
    assert not site.bring()["changed"]
    for name in ("templates/.DS_Store", "templates/note.yaml~", "drafts/one.txt"):
        (chart / name).write_text("two\n")
    assert not site.bring()["changed"]
    (chart / "read.txt").write_text("two\n")
    assert site.bring()["actions"] == ["upgrade web (the chart's content)"]
    assert not site.bring()["changed"]


def test_no_login_of_a_chart_is_shown(site: Site) -> None:
    for chart in (
        {"ref": f"https://user:{CANARY}@127.0.0.1:1/small.tgz"},
        {"ref": f"oci://user:{CANARY}@127.0.0.1:1/small"},
        {"ref": "small", "repository": f"https://user:{CANARY}@127.0.0.1:1"},
    ):
        assert "can't be obtained" in site.refused(chart=chart, values={})


def test_a_chart_may_ask_what_the_cluster_has(site: Site) -> None:
    """As several do for a ServiceMonitor; Helm itself knows of no APIService."""
    asked = '{{ if not (.Capabilities.APIVersions.Has "apiregistration.k8s.io/v1/%s") }}{{ fail "no such kind" }}{{ end }}'
    version = '{{ if ne .Capabilities.KubeVersion.Version "VERSION" }}{{ fail "another version" }}{{ end }}'
    here = site.rig.request("GET", "/version")["gitVersion"]
    template = site.folder / "small/templates/asks.yaml"
    template.write_text(asked % "APIService" + version.replace("VERSION", here))
    assert site.bring(check_mode=True)["changed"] and site.bring()["changed"]
    template.write_text(asked % "Nothing")
    assert "no such kind" in site.refused()


def admission(namespace: str) -> list[dict[str, Any]]:
    """What adds an annotation to each ConfigMap of a namespace that is written, as an operator's mutating webhook does."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]
    change = 'Object{metadata: Object.metadata{annotations: {"validated": "true"}}}'
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": namespace},
            "spec": {
                "matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change}}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": namespace},
            "spec": {"policyName": namespace},
        },
    ]


def test_what_an_admission_adds_later_is_no_change_of_ours(site: Site) -> None:
    """As the Prometheus operator's webhook, which does not answer yet when its own chart's rules are made."""
    site.bring()
    objects, path = Objects(site.rig.api), f"/api/v1/namespaces/{site.namespace}/configmaps/web-config"
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web-config"}}
    policy = admission(site.namespace)
    try:
        for each in policy:
            objects.apply(each, "test")

        def changed() -> bool:
            tried = objects.apply(item, "test", site.namespace, dry_run=True)
            return bool((tried["metadata"].get("annotations") or {}).get("validated"))

        until(changed, 30, "the policy")
        assert not site.bring()["changed"]
        site.patch("/api/v1/namespaces/NAMESPACE/configmaps/web-config", {"data": {"word": "other"}})
        assert site.bring()["drift"] == ["ConfigMap web-config: data.word"]
        assert site.rig.request("GET", path)["data"]["word"] == "second"
        assert not site.bring()["changed"]
    finally:
        for each in reversed(policy):
            objects.remove(cast(dict[str, Any], objects.get(each)))
