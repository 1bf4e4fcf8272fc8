# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make up` with docker: a docker daemon of its own, beside podman, makes the cluster, the images and the application.

The tests follow each other. Where no docker answers, Debian's package is installed and its daemon started by hand.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import LABEL, Engine, NoEngineError

from tests.harness import LONG, Cluster, Run, playbook, run_role, until
from tests.node import (
    assert_nothing_left,
    assert_whole,
    engines,
    free_network,
    free_port,
    host,
    kill_kubeadm,
    output,
)

pytestmark = LONG
NAME = "flaskops-docker-test"
NODE = f"{NAME}-node"
KUBECONFIG = Path.home() / f".local/share/flaskops/clusters/{NAME}/kubeconfig"
PORT = free_port()
CAP_SYS_RESOURCE = 24
# `--privileged` asks for all capabilities, of the container and of each exec, and runc refuses those that root lacks here.
RUNC = """\
#!/usr/bin/env python3
import json, os, pathlib, sys
for flag, value in zip(sys.argv, sys.argv[1:], strict=False):
    if flag in ("--bundle", "--process"):
        path = pathlib.Path(value, "config.json") if flag == "--bundle" else pathlib.Path(value)
        spec = json.loads(path.read_text())
        for names in spec.get("process", spec).get("capabilities", {}).values():
            if "CAP_SYS_RESOURCE" in names:
                names.remove("CAP_SYS_RESOURCE")
        path.write_text(json.dumps(spec))
os.execvp("runc", ["runc", *sys.argv[1:]])
"""


def lacks_capability() -> bool:
    found = re.search(r"^CapBnd:\s+(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found is not None and not int(found.group(1), 16) >> CAP_SYS_RESOURCE & 1


def remove_what_docker_leaves() -> None:
    """The link and the rules that a daemon leaves behind when it ends."""
    subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True)
    for table in ("filter", "nat"):
        rules = subprocess.run(["iptables", "-t", table, "-S"], capture_output=True, text=True, check=True).stdout.splitlines()
        ours = [rule for rule in rules if re.search(r"\bDOCKER|\bdocker0\b", rule)]
        for rule in [each for each in ours if each.startswith("-A ")]:
            subprocess.run(["iptables", "-t", table, "-D", *shlex.split(rule)[1:]], check=True)
        for rule in [each for each in ours if each.startswith("-N ")]:
            subprocess.run(["iptables", "-t", table, "-X", rule.split()[1]], check=True)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The docker of this machine where one answers, else Debian's with data and a socket of its own."""
    try:
        yield Engine.find("docker")
        return
    except NoEngineError:
        pass
    if shutil.which("dockerd") is None:
        if os.geteuid() or shutil.which("apt-get") is None:
            pytest.skip("no docker answers, and Debian's package docker.io can't be installed: start docker, or run as root")
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "docker.io"]
        subprocess.run(install, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL)
    folder = tmp_path_factory.mktemp("docker")
    (folder / "daemon.json").write_text("{}")
    (folder / "runc").write_text(RUNC)
    (folder / "runc").chmod(0o755)
    command = ["dockerd", "--host", f"unix://{folder}/socket", "--config-file", f"{folder}/daemon.json"]
    command += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    command += ["--bip", f"{free_network(220)}.1/24"]
    if lacks_capability():
        command += ["--add-runtime", f"no-sys-resource={folder}/runc", "--default-runtime", "no-sys-resource"]
    # A daemon that finds forwarding off has the kernel drop what podman's networks forward.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("w") as log:
        patch.setenv("DOCKER_HOST", f"unix://{folder}/socket")
        with subprocess.Popen(command, stdout=log, stderr=log) as daemon:
            try:
                yield until(lambda: Engine.find("docker"), 60, f"dockerd (see {folder}/log)", passing=(NoEngineError,))
            finally:
                daemon.terminate()
                daemon.wait()
                remove_what_docker_leaves()
                shutil.rmtree(folder / "data", ignore_errors=True)


class Own:
    """The cluster of these tests, which need not run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = free_network()
        self.inventory = ("-i", "inventories/local", "-i", str(folder / "inventory.yml"), "--limit", NAME)
        self.use("docker")

    def use(self, engine: str) -> None:
        options = f"{{local_cluster_api_port: {PORT}, local_cluster_subnet: {self.network}.0/24, local_cluster_engine: {engine}}}"
        (self.folder / "inventory.yml").write_text(f"local: {{hosts: {{{NAME}: {options}}}}}\n")

    def up(self, stages: str = "cluster,image,app,verify", workers: int = 0) -> Run:
        return playbook("site.yml", "--tags", stages, "-e", f"local_cluster_workers={workers}", inventory=self.inventory)

    def down(self) -> Run:
        return playbook("playbooks/teardown.yml", inventory=self.inventory)

    def answers(self) -> bool:
        with urllib.request.urlopen(
            f"http://{Cluster(KUBECONFIG, NAME).address('flask-app', 'flask-app')}/health", timeout=5
        ) as reply:
            return bool(reply.status == 200)


@pytest.fixture(scope="module")
def own(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    own = Own(tmp_path_factory.mktemp("docker-cluster"))
    own.down()
    yield own
    own.down()


def alone() -> bool:
    """Whether no other cluster of any engine runs."""
    found = {name for each in engines() for name in output(each, "volume", "ls", "-q", "--filter", f"label={LABEL}").split()}
    return not found - {f"{NAME}-data"}


@pytest.fixture(scope="module", autouse=True)
def before(own: Own, docker: Engine) -> dict[str, set[str]]:
    return host(docker, KUBECONFIG, PORT, alone())


def test_run_whose_kubeadm_is_killed_is_one_sentence(own: Own, docker: Engine) -> None:
    with ThreadPoolExecutor() as pool:
        run = pool.submit(own.up, "cluster")
        kill_kubeadm(docker, NODE, f"{own.network}.2")
    assert "failed with status 137: " in run.result().error
    assert "Traceback" not in run.result().stdout


def test_the_next_run_makes_the_whole_chain(own: Own) -> None:
    """Out of what the killed kubeadm has left, whose API server answers."""
    run = own.up()
    assert run.changed > 0
    assert_whole(Cluster(KUBECONFIG, NAME), f"{own.network}.2")
    assert own.answers()


def test_again_changes_nothing(own: Own) -> None:
    assert own.up().changed == 0


def test_auto_takes_the_engine_that_has_the_node(own: Own) -> None:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed, so there is no other engine to take")
    own.use("auto")
    try:
        assert own.up().changed == 0
    finally:
        own.use("docker")


def test_killed_node_comes_back(own: Own, docker: Engine) -> None:
    output(docker, "kill", NODE)
    assert own.up().changed == 1
    assert own.answers()


def test_a_worker_joins_and_has_the_application(own: Own, docker: Engine) -> None:
    worker, cluster = f"{NAME}-worker-1", Cluster(KUBECONFIG, NAME)
    assert own.up(workers=1).changed > 0
    cluster.core.delete_collection_namespaced_pod("flask-app", label_selector="app=flask-app")

    def nodes_of_ready_pods() -> set[str]:
        pods = cluster.core.list_namespaced_pod("flask-app", label_selector="app=flask-app").items
        return {pod.spec.node_name for pod in pods if all(each.ready for each in pod.status.container_statuses or [])}

    until(lambda: worker in nodes_of_ready_pods(), 60, "a pod on the worker")
    output(docker, "kill", worker)
    assert own.up(workers=1).changed == 1
    assert own.answers()
    assert own.up().changed == 1  # drained and removed
    assert [node.metadata.name for node in cluster.core.list_node().items] == [NODE]
    assert own.answers()


@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_a_failed_build_says_why(docker: Engine, tmp_path: Path, buildkit: str) -> None:
    # Debian's own client, where it is, has a BuildKit without the plug-in.
    env = {"PATH": f"/usr/bin:{os.environ['PATH']}", "DOCKER_BUILDKIT": buildkit}
    options = {"flask_image_engine": "docker", "flask_image_trust_host_ca": True, "flask_image_repository": f"localhost/{NAME}"}
    options |= {"flask_image_wsgi": "app:app", "flask_image_requirements": ["flask==99"], "flask_image_base": "debian"}
    error = run_role("flask_image", tmp_path, options, env=env).error
    if "buildx component is missing" in error:
        pytest.skip("this docker client has no BuildKit: install docker-buildx")
    assert "No matching distribution found for flask==99: correct it in flask_image_requirements" in error
    assert not [line for line in output(docker, "ps", "--all", "--format", "{{.Command}}").splitlines() if "venv" in line]


def test_the_image_does_not_keep_this_machines_certificates(docker: Engine) -> None:
    image = output(docker, "images", "--format", "{{.Repository}}:{{.Tag}}", "localhost/flask-app").split()[0]
    assert "PIP_CERT" not in output(docker, "image", "inspect", "--format", "{{.Config.Env}}", image)


def test_down_leaves_the_host_as_it_was(own: Own, docker: Engine, before: dict[str, set[str]]) -> None:
    assert own.down().changed == 1
    assert own.down().changed == 0
    assert not KUBECONFIG.parent.exists()
    ours = rf"{NAME}|{re.escape(own.network)}\.|:{PORT}\b"
    assert_nothing_left(before, lambda: host(docker, KUBECONFIG, PORT, alone()), ours)
