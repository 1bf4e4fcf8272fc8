# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The path of a machine that reaches registries and releases, from empty caches; services of this machine stand for those.

Images and charts have their official names, and hold the programs and charts of this collection. The Go proxy, the package index
and mmdebstrap are cut off, so what is not pulled or downloaded is not there.

FLASKOPS_UPSTREAM_CHARTS names a folder of upstream charts with their subcharts, which take the place of ours;
FLASKOPS_UPSTREAM_IMAGES one of image archives, as `docker save` writes them, which the registry has too.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import os
import platform
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.filter.package_folder import package_folder
from ansible_collections.flaskops.observability.plugins.module_utils.helm.chart import Chart, images
from ansible_collections.flaskops.observability.plugins.module_utils.helm.program import Helm, HelmError
from ansible_collections.flaskops.observability.plugins.module_utils.image.build import DEBIAN_BASE, DEBIAN_PACKAGES
from ansible_collections.flaskops.observability.plugins.module_utils.node import image_archive
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine, debian_base
from ansible_collections.flaskops.observability.plugins.module_utils.node.given_images import archive_names
from ansible_collections.flaskops.observability.plugins.module_utils.node.host import (
    ARCH,
    DEBIAN_IMAGE,
    NODE_BASE,
    NODE_PACKAGES,
    registry_answers,
)

from tests.harness import LONG, ROOT, Run, playbook, until
from tests.node import free_network, free_port, output
from tests.registry import LOGIN, Registry
from tests.toolchain import programs as uncached

pytestmark = [
    LONG,
    pytest.mark.skipif(os.geteuid() != 0, reason="a node needs root"),
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="Debian's docker-registry is not installed"),
    pytest.mark.skipif(not shutil.which("podman"), reason="podman, whose images can be kept apart, is not installed"),
]
NAME = "flaskops-connected"
programs = functools.cache(uncached)
IMAGES = yaml.safe_load((ROOT / "images.yml").read_text())
VERSIONS = {name: spec.get("release", spec["version"]) for name, spec in IMAGES["toolchain"].items()}
CLOSED = "http://127.0.0.1:1/"
APP_BASE = "docker.io/library/python:3.13-slim-bookworm"
FLUENT_BIT = "cr.fluentbit.io"
UPSTREAM_CHARTS, UPSTREAM_IMAGES = (os.environ.get(f"FLASKOPS_UPSTREAM_{what}", "") for what in ("CHARTS", "IMAGES"))
# Official names, each with the program that is in it here and where; `v` and the like are in the names.
PROGRAMS = (
    {
        f"registry.k8s.io/{name}:v{VERSIONS['kubernetes']}": ("kubernetes", name, f"/usr/local/bin/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    }
    | {
        f"registry.k8s.io/etcd:{VERSIONS['etcd']}-0": ("etcd", "etcd", "/usr/local/bin/etcd"),
        f"registry.k8s.io/coredns/coredns:v{VERSIONS['coredns']}": ("coredns", "coredns", "/coredns"),
        f"quay.io/prometheus/prometheus:v{VERSIONS['prometheus']}": ("prometheus", "prometheus", "/bin/prometheus"),
        f"quay.io/prometheus/alertmanager:v{VERSIONS['alertmanager']}": ("alertmanager", "alertmanager", "/bin/alertmanager"),
        f"quay.io/prometheus/node-exporter:v{VERSIONS['node-exporter']}": (
            "node-exporter",
            "node_exporter",
            "/bin/node_exporter",
        ),
        f"quay.io/prometheus/blackbox-exporter:v{VERSIONS['blackbox-exporter']}": (
            "blackbox-exporter",
            "blackbox_exporter",
            "/bin/blackbox_exporter",
        ),
        f"registry.k8s.io/kube-state-metrics/kube-state-metrics:v{VERSIONS['kube-state-metrics']}": (
            "kube-state-metrics",
            "kube-state-metrics",
            "/kube-state-metrics",
        ),
        f"docker.io/victoriametrics/victoria-logs:v{VERSIONS['victoria-logs']}": (
            "victoria-logs",
            "victoria-logs-prod",
            "/victoria-logs-prod",
        ),
    }
    | {
        f"quay.io/prometheus-operator/{name}:v{VERSIONS['prometheus-operator']}": (
            "prometheus-operator",
            binary,
            f"/bin/{binary}",
        )
        for name, binary in (("prometheus-operator", "operator"), ("prometheus-config-reloader", "prometheus-config-reloader"))
    }
)
# What the stand-in of the upstream chart adds, as Grafana, whose image nobody has here.
GRAFANA = """\
{{- if .Values.grafana.enabled }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-grafana
  labels: {app.kubernetes.io/name: grafana}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: grafana}}
  template:
    metadata: {labels: {app.kubernetes.io/name: grafana}}
    spec: {containers: [{name: grafana, image: "docker.io/grafana/grafana:0.0.0-none"}]}
{{- end }}
"""


def short(image: str) -> str:
    """An image's name without its registry, as a mirror has it."""
    return image.partition("/")[2]


def releases(folder: Path) -> dict[str, str]:
    """The files of each component's releases with their checksums, laid out as their projects do; the folder of each."""
    arch, found = ARCH[platform.machine()], {}
    for name, spec in IMAGES["toolchain"].items():
        if "file" not in spec:
            continue
        found[name] = name
        for binary in spec["packages"]:
            words = {"version": spec["version"], "release": spec.get("release"), "arch": arch, "name": binary}
            file = folder / name / spec["file"].format(**words)
            if file.exists():
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix in (".gz", ".tgz"):
                with gzip.open(file, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
                    for each in spec["packages"]:
                        archive.add(programs(name) / each, f"release/{each}")
            else:
                file.symlink_to(programs(name) / binary)
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            sums = folder / name / spec["checksum"].format(**words)
            sums.write_text(digest if sums.name == f"{file.name}.sha256" else f"{digest}  {file.name}\n")
    return found


def stand_in(folder: Path, chart: str, values: dict[str, Any]) -> Path:
    """The chart of this collection under the name and version of upstream's, with default values of its own."""
    entry, target = IMAGES["charts"][chart], folder / chart
    shutil.copytree(ROOT / "charts" / entry["embedded"], target)
    metadata = yaml.safe_load((target / "Chart.yaml").read_text()) | {"name": chart, "version": entry["version"]}
    (target / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    merged = merge(yaml.safe_load((target / "values.yaml").read_text()), values)
    (target / "values.yaml").write_text(yaml.safe_dump(merged))
    return target


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return old | {key: merge(old.get(key, {}), value) if isinstance(value, dict) else value for key, value in new.items()}


def charts(folder: Path) -> list[Path]:
    """The upstream charts, or stand-ins of two; their defaults name images, as upstream's do."""
    if UPSTREAM_CHARTS:
        return [path for path in Path(UPSTREAM_CHARTS).iterdir() if path.name in IMAGES["charts"]]

    def tag(component: str) -> dict[str, str]:
        return {"tag": f"v{VERSIONS[component]}"}

    prometheus, alertmanager = ({"image": tag(name), "version": f"v{VERSIONS[name]}"} for name in ("prometheus", "alertmanager"))
    operator = tag("prometheus-operator")
    stack = stand_in(
        folder,
        "kube-prometheus-stack",
        {
            "prometheusOperator": {"image": operator, "prometheusConfigReloader": {"image": operator}},
            "prometheus": {"prometheusSpec": prometheus},
            "alertmanager": {"alertmanagerSpec": alertmanager},
            "kube-state-metrics": {"image": tag("kube-state-metrics")},
            "prometheus-node-exporter": {"image": tag("node-exporter")},
            "grafana": {"enabled": True},
        },
    )
    (stack / "templates/grafana.yaml").write_text(GRAFANA)
    definitions = stack / "charts/crds"
    shutil.copytree(programs("prometheus-operator") / "crds", definitions / "crds")
    (definitions / "Chart.yaml").write_text("{apiVersion: v2, name: crds, version: 0.0.0}\n")
    return [stack, stand_in(folder, "prometheus-blackbox-exporter", {"image": tag("blackbox-exporter")})]


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serves a folder on loopback; its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Site:
    """A machine with empty caches, its registry, and the cluster that is made on it."""

    def __init__(self, folder: Path, registry: Registry, network: str, bases: dict[str, str], expected: set[str]) -> None:
        """:param bases: the address of each component's releases; expected: what is to be pulled, by its official name."""
        self.folder, self.registry, self.expected = folder, registry, expected
        self.fluent_bit = any(name.startswith(FLUENT_BIT) for name in expected)
        own = {
            name: f"oci://{registry.host}/{short(spec['ref'].removeprefix('oci://'))}" for name, spec in IMAGES["charts"].items()
        }
        self.image = f"{registry.host}/flaskops"
        self.options: dict[str, Any] = {
            "local_cluster_api_port": free_port(),
            "local_cluster_subnet": f"{network}.0/24",
            "local_cluster_release_bases": bases,
            "local_cluster_registry_mirrors": [
                {"registry": "_default", "endpoint": f"https://{registry.host}", "ca_file": str(registry.authority)}
            ],
            "kube_prometheus_stack_chart_ref": own["kube-prometheus-stack"],
            "kube_prometheus_stack_blackbox_chart_ref": own["prometheus-blackbox-exporter"],
            "kube_prometheus_stack_alert_inbox_image": f"{self.image}/runner:test",
            "verify_schedule_image": f"{self.image}/runner:test",
            "victoria_logs_collector_image": f"{self.image}/log-collector:test",
            "loki_chart_ref": own["loki"],
            "flask_image_delivery": "push",
            "flask_apps": [{**self._app(), "repository": f"{self.image}/flask-app"}],
        }
        if UPSTREAM_CHARTS:
            self.options["victoria_logs_chart_ref"] = own["victoria-logs-single"]
        self._cut()

    @staticmethod
    def _app() -> dict[str, Any]:
        group: dict[str, Any] = yaml.safe_load((ROOT / "inventories/local/group_vars/local.yml").read_text())
        return dict(group["app_of_reference"])

    def _cut(self) -> None:
        """An environment with caches and an image store of its own, and without what makes or fetches things in another way."""
        inventory = self.folder / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"local": {"hosts": {NAME: self.options}}}))
        self.inventory = ("-i", "inventories/local", "-i", str(inventory), "--limit", NAME)
        store = self.folder / "storage.conf"
        store.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/images"\nrunroot = "{self.folder}/run"\n',
        )
        mirrors = self.folder / "registries.conf"
        mirrors.write_text(f'[[registry]]\nprefix = "docker.io"\nlocation = "{self.registry.host}"\n')
        cut = self.folder / "cut"
        cut.mkdir()
        for name in ("mmdebstrap", "go", "helm"):
            (cut / name).write_text(f'#!/bin/sh\necho {name} >> "{self.folder}/called"\nexit 1\n')
            (cut / name).chmod(0o755)
        self.trust = {"SSL_CERT_FILE": str(self.registry.authority)}
        self.env = self.trust | {
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "CONTAINERS_STORAGE_CONF": str(store),
            "CONTAINERS_REGISTRIES_CONF": str(mirrors),
            "GOPROXY": "off",
            "PIP_INDEX_URL": CLOSED,
            "PATH": f"{cut}:{os.environ['PATH']}",
        }

    def run(self, *args: str) -> Run:
        return playbook("site.yml", *args, inventory=self.inventory, env=self.env)

    def node(self, *words: str) -> str:
        command = ["podman", "exec", f"{NAME}-node", *words]
        env = {**Engine.find("podman").env, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def published(found: list[Path]) -> dict[str, tuple[str, str, str]]:
    """PROGRAMS by the tags that these charts name with their default values."""
    helm, result = Helm(str(programs("helm") / "helm")), dict(PROGRAMS)
    for chart in found:
        named: dict[str, list[str]] = {}
        with contextlib.suppress(HelmError):  # Loki's has no defaults for all
            named = images(Chart(chart).render(helm, "a", "a", {}, hooks=True))
        for image in named:
            for ours in [ours for ours in result if ours.rpartition(":")[0] == image.rpartition(":")[0]]:
                result[image] = result.pop(ours)
    return result


def fill(folder: Path, registry: Registry) -> set[str]:
    """Push the images and charts of others, made of the programs that the toolchain's cache has; all that are to be pulled."""
    arch, scratch, found = ARCH[platform.machine()], folder / "image.tar", charts(folder)
    expected = {pause(), DEBIAN_IMAGE}
    for image, (component, binary, inside) in published(found).items():
        image_archive.write(scratch, image, programs(component) / binary, inside, [inside], arch)
        registry.add_image(scratch, short(image))
        expected.add(image)
    for path in Path(UPSTREAM_IMAGES).iterdir() if UPSTREAM_IMAGES else ():
        (image,) = archive_names(str(path))
        registry.add_image(path, short(image))
        expected.add(image)
    engine = Engine.find("podman")
    for base, packages, image in ((NODE_BASE, NODE_PACKAGES, DEBIAN_IMAGE), (DEBIAN_BASE, DEBIAN_PACKAGES, APP_BASE)):
        debian_base(engine, base, packages)
        scratch.unlink()
        output(engine, "save", "--output", str(scratch), base)
        registry.add_image(scratch, short(image))
    catatonit = folder / "catatonit"
    look = ["run", "--rm", "--network", "none", "--entrypoint", "cat", NODE_BASE, "/usr/bin/catatonit"]
    catatonit.write_bytes(engine.run(look).stdout)
    image_archive.write(scratch, pause(), catatonit, "/pause", ["/pause", "-P"], arch)
    registry.add_image(scratch, short(pause()))
    for chart in found:
        place = f"{IMAGES['charts'][chart.name]['ref'].removeprefix('oci://')}:{Chart(chart).version}"
        registry.add_chart(chart, short(place))
        expected.add(place)
    return expected


@functools.cache
def pause() -> str:
    """The pause image of this version of Kubernetes."""
    command = [str(programs("kubernetes") / "kubeadm"), "config", "images", "list", "--kubernetes-version"]
    listed = subprocess.run([*command, f"v{VERSIONS['kubernetes']}"], capture_output=True, text=True, check=True).stdout
    return next(line for line in listed.split() if "/pause:" in line)


def build_own(site: Site, folder: Path) -> None:
    """Push what this collection builds itself: the application by its own stage, the runner and the collector by their files."""
    done = playbook("playbooks/image.yml", inventory=site.inventory, env=site.trust)
    assert done.returncode == 0, done.stdout[-3000:]
    engine, env = Engine.find("podman"), {**Engine.find("podman").env, **site.trust}
    sources = {
        "runner": (ROOT / "in_cluster", ROOT / "in_cluster/build.yml"),
        "log-collector": (ROOT / "in_cluster/log_collector", ROOT / "roles/victoria_logs/tasks/collector.yml"),
    }
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name, (source, build) in sources.items():
        (task,) = yaml.safe_load(build.read_text())
        image, place = task["flaskops.observability.container_image"], folder / name
        shutil.copytree(source, place, ignore=ignored)
        for inside, part in image["extra_folders"].items():
            _, ours, below = part.partition("/../../")
            shutil.copytree(ROOT / below if ours else package_folder("yaml"), place / inside, ignore=ignored)
        for inside, text in image["extra_files"].items():
            (place / inside).write_text(text)
        ref = f"{site.image}/{name}:test"
        engine.build(str(place), str(place / "Containerfile"), ref, {"BASE_IMAGE": DEBIAN_BASE})
        subprocess.run(["podman", "push", ref], env=env, check=True, capture_output=True)
    listed = output(engine, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    output(engine, "rmi", *(ref for ref in listed if ref.startswith(site.image)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("connected")
    network = free_network()
    # Loopback has another address while this runs: nodes reach it, and no other machine does.
    address = f"{free_network(int(network.rpartition('.')[2]) + 1)}.1"
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    try:
        names = releases(folder / "releases")
        with Registry(folder, address, free_port()) as registry, web_server(folder / "releases") as url:
            until(registry.answers, 10, "a registry that answers", passing=(OSError,))
            expected = fill(folder, registry)
            site = Site(folder, registry, network, {name: f"{url}/{path}" for name, path in names.items()}, expected)
            build_own(site, folder)
            registry.log.write_text("")  # what was built here asked too
            yield site
            done = playbook("playbooks/teardown.yml", inventory=site.inventory, env=site.env)
            env = {**Engine.find("podman").env, **site.env}
            subprocess.run(["podman", "rmi", "--all", "--force"], env=env, capture_output=True)
            subprocess.run(["umount", folder / "images/overlay"], capture_output=True)
            for name in ("images", "content", "cache", "releases"):  # which are large
                shutil.rmtree(folder / name)
            assert done.returncode == 0, done.stdout[-2000:]
    finally:
        subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


@pytest.fixture(scope="module")
def first(site: Site) -> Run:
    """The first run, which ends with verify."""
    done = site.run()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done


def test_everything_is_downloaded_or_pulled(site: Site, first: Run) -> None:
    pulled = site.registry.pulled()
    assert not {name for name in site.expected if short(name) not in pulled}
    collector = () if site.fluent_bit else ("log-collector",)
    assert {f"flaskops/{name}:test" for name in ("runner", *collector)} <= pulled
    assert any(name.startswith("flaskops/flask-app:") for name in pulled)
    assert {path.name.rsplit("-", 2)[0] for path in (site.folder / "cache/flaskops/bin").iterdir()} >= {
        "kubernetes",
        "etcd",
        "helm",
    }


def test_nothing_is_built_or_imported(site: Site, first: Run) -> None:
    assert not (site.folder / "called").exists() or set((site.folder / "called").read_text().split()) == {"helm"}
    assert not (site.folder / "cache/flaskops/go").exists()
    assert "is built from its Go module" not in first.stdout + first.stderr
    listed = site.node("ctr", "-n", "k8s.io", "images", "ls")
    assert "io.flaskops.binary" not in listed
    refs = {line.split()[0] for line in listed.splitlines()[1:]}
    assert {ref for ref in refs if ref.startswith("localhost/")} == {"localhost/pause:node"}


def test_what_has_no_image_is_skipped_by_its_name(site: Site, first: Run) -> None:
    told = " ".join(first.stdout.split())
    if UPSTREAM_CHARTS:
        lacking = r"(docker.io/grafana/grafana|quay.io/kiwigrid/k8s-sidecar)"
        assert re.search(rf"Grafana is skipped: the node \S+ has no image {lacking}:", told)
        assert re.search(r"loki: skipped, because the (chart|node \S+ has no image docker.io/grafana/loki:)", told)
    else:
        assert "Grafana is skipped: the node" in told and "no image docker.io/grafana/grafana:0.0.0-none" in told
        assert "loki: skipped, because the chart" in told
    if not registry_answers(FLUENT_BIT) and not site.fluent_bit:
        assert f"fluent_bit: skipped, because the node {NAME}-node has no image {FLUENT_BIT}/fluent/fluent-bit" in told


def test_a_second_run_changes_nothing(site: Site, first: Run) -> None:
    again = site.run()
    assert again.changed == 0, again.stdout


def test_a_mirror_that_asks_for_a_login(site: Site, first: Run) -> None:
    folder, scratch = site.folder / "closed", site.folder / "exporter.tar"
    folder.mkdir()
    image_archive.write(
        scratch, "a:1", programs("node-exporter") / "node_exporter", "/bin/a", ["/bin/a"], ARCH[platform.machine()]
    )
    with Registry(folder, site.registry.host.rpartition(":")[0], free_port(), login=True) as closed:
        until(closed.answers, 10, "a registry that answers", passing=(OSError,))
        closed.add_image(scratch, "private/exporter:1")
        mirror = {"registry": "closed.invalid", "endpoint": f"https://{closed.host}", "ca_file": str(closed.authority)}
        for password, word in (("wr0ng", "authorization failed"), (LOGIN[1], "Completed pull")):
            login = {"username": LOGIN[0], "password": password}
            mirrors = [*site.options["local_cluster_registry_mirrors"], {**mirror, **login}]
            run = playbook(
                *("playbooks/cluster.yml", "-vvv"),
                inventory=site.inventory,
                env=site.env,
                extra={"local_cluster_registry_mirrors": mirrors},
            )
            assert run.changed == 1
            assert password not in run.stdout + run.stderr
            pull = "ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d closed.invalid/private/exporter:1 2>&1 || true"
            assert word in site.node("sh", "-c", pull)


def test_changed_mirrors_reach_the_cluster_that_runs(site: Site, first: Run) -> None:
    more = [*site.options["local_cluster_registry_mirrors"], {"registry": "quay.io", "endpoint": "https://mirror.invalid"}]
    started = site.node("cat", "/proc/1/stat")
    for args, changed in ((["--check"], 1), ([], 1), ([], 0)):
        run = playbook(
            "playbooks/cluster.yml", *args, inventory=site.inventory, env=site.env, extra={"local_cluster_registry_mirrors": more}
        )
        assert run.changed == changed
    assert "mirror.invalid" in site.node("cat", "/etc/containerd/certs.d/quay.io/hosts.toml")
    assert site.node("cat", "/proc/1/stat").split()[21] == started.split()[21]
