# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is needed of other people's machines: their package managers, engines, certificates, control groups and speed.

Commands of other systems are scripts in PATH that answer as the real ones do, their files are in a temporary folder.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shlex
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.flaskops.observability.plugins.module_utils.image import build as image_build
from ansible_collections.flaskops.observability.plugins.module_utils.image import deliver
from ansible_collections.flaskops.observability.plugins.module_utils.node import binary_images, build, given_images, image_archive
from ansible_collections.flaskops.observability.plugins.module_utils.node import engine as engine_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import host as host_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import node as node_module
from ansible_collections.flaskops.observability.plugins.module_utils.node.cluster import LocalCluster
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import LABEL, Engine, EngineError, NoEngineError
from ansible_collections.flaskops.observability.plugins.module_utils.node.node import ClusterError
from ansible_collections.flaskops.observability.plugins.modules import container_image, local_cluster

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "roles/local_cluster/files/node/scripts"
MIB = 2**20
PLACES = host_module.PLACES
Write = Callable[..., None]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Nothing is in PATH but what is written: the names and scripts of commands."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "PACKAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(host_module, "PLACES", ())
    monkeypatch.setattr(engine_module, "CONTAINERS_CONF", (tmp_path / "usr.conf", tmp_path / "etc.conf"))
    monkeypatch.setattr(engine_module, "CONTAINERS_CONF_D", tmp_path / "containers.conf.d")

    def write(**scripts: str) -> None:
        for name, script in scripts.items():
            path = folder / name.replace("_", "-")
            path.write_text(f"#!/bin/bash\n{script}\n")
            path.chmod(0o755)

    return write


# Package managers


LACKS = {"ip", "iptables", "netavark", "mmdebstrap", str(engine_module.KEYRING), "venv"}


@pytest.mark.parametrize(
    ("manager", "named"),
    [
        ("apt-get", ["debian-archive-keyring", "iproute2", "iptables", "mmdebstrap", "netavark", "python3-venv"]),
        ("dnf", ["debian-keyring", "iproute", "iptables-nft", "mmdebstrap", "netavark", "python3"]),
        ("pacman", ["debian-archive-keyring", "iproute2", "iptables", "mmdebstrap", "netavark", "python"]),
        ("zypper", sorted(LACKS)),
    ],
)
def test_packages_are_named_as_the_machines_manager_calls_them(commands: Write, manager: str, named: list[str]) -> None:
    commands(**{manager: ""})
    assert host_module.packages(LACKS) == named


@pytest.mark.parametrize(
    ("system", "there", "manager"),
    [
        ({"ID": "fedora"}, ("apt-get", "dnf"), "dnf"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, ("apt-get", "dnf"), "dnf"),
        ({"ID": "manjaro", "ID_LIKE": "arch"}, ("apt-get", "pacman"), "pacman"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, ("apt-get", "dnf", "pacman"), "apt-get"),
        ({"ID": "amzn", "ID_LIKE": "fedora"}, ("dnf",), "dnf"),
        ({"ID": "void"}, ("pacman",), "pacman"),
        (None, ("apt-get", "dnf"), "apt-get"),
        ({"ID": "fedora"}, (), None),
    ],
)
def test_the_manager_is_that_of_the_distribution(
    commands: Write, monkeypatch: pytest.MonkeyPatch, system: dict[str, str] | None, there: tuple[str, ...], manager: str | None
) -> None:
    """mmdebstrap calls apt-get, so Fedora and Arch have it too where that is installed."""

    def release() -> dict[str, str]:
        if system is None:
            raise OSError("no os-release")
        return system

    monkeypatch.setattr(host_module.platform, "freedesktop_os_release", release)
    commands(**dict.fromkeys(there, ""))
    assert host_module.manager() == manager


def test_every_needed_command_has_its_packages() -> None:
    assert {len(names) for names in host_module.PACKAGES.values()} == {len(host_module.MANAGERS)}
    assert host_module.podman_commands(None) | LACKS | {"modprobe", "podman", "nft", "runc"} == set(host_module.PACKAGES)


@pytest.fixture
def ask(commands: Write, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """What install-packages.sh does after Python was found, on a machine without a registry: its exit code and what it prints."""
    monkeypatch.setattr(host_module, "registry_answers", lambda host: False)
    monkeypatch.setattr(host_module, "KEYRING", tmp_path / "keyring.gpg")
    monkeypatch.setitem(host_module.PACKAGES, str(tmp_path / "keyring.gpg"), host_module.PACKAGES[str(engine_module.KEYRING)])

    def call(*args: str, inventory: str = "inventories/local", user: int = 0) -> tuple[int, str, str]:
        monkeypatch.setattr(os, "geteuid", lambda: user)
        monkeypatch.setattr(sys, "argv", ["x", "--inventory", str(ROOT / inventory), *args])
        status = host_module.main()
        return status, *capfd.readouterr()

    return call


DOCKER = '[ "$1" = version ]'  # it answers, and has nothing
RECORD = 'echo "${0##*/} $*" >> ${0%/*}/../installed'


def test_nothing_is_installed_that_was_not_asked_for(commands: Write, ask: Any, tmp_path: Path) -> None:
    commands(**{"apt-get": RECORD, "docker": DOCKER, "ip": ""})
    for args, user, advice in (((), 0, "or the same command with PACKAGES=install"), (("--install",), 1000, "needs root")):
        status, out, err = ask(*args, user=user)
        assert status == 1 and out == "This machine lacks: debian-archive-keyring mmdebstrap\n"
        assert "'apt-get install -qq -y --no-install-recommends debian-archive-keyring mmdebstrap'" in err
        assert advice in err and ("with PACKAGES=install" in err) == (not args)
    assert not (tmp_path / "installed").exists()


def test_what_is_lacking_is_installed_when_asked(commands: Write, ask: Any, tmp_path: Path) -> None:
    commands(**{"apt-get": RECORD, "docker": DOCKER, "ip": ""})
    assert ask("--install")[0] == 0
    last = (tmp_path / "installed").read_text().splitlines()
    assert last == ["apt-get update -qq", "apt-get install -qq -y --no-install-recommends debian-archive-keyring mmdebstrap"]


def test_what_a_manager_has_no_package_of_stays_missing(commands: Write, ask: Any, tmp_path: Path) -> None:
    """mmdebstrap on Arch, where only a registry helps."""
    (tmp_path / "keyring.gpg").touch()
    commands(pacman=RECORD, docker=DOCKER, ip="")
    for args in (("--install",), ()):
        status, out, err = ask(*args)
        assert (status, out) == (1, "This machine lacks: mmdebstrap\n")
        assert "pacman has no package of mmdebstrap" in err and f"pull {host_module.DEBIAN_IMAGE}" in err and "Install" not in err
    assert not (tmp_path / "installed").exists()


@pytest.mark.parametrize("args", [("--install",), ()])
def test_what_has_no_package_is_named_beside_what_has(commands: Write, ask: Any, tmp_path: Path, args: tuple[str, ...]) -> None:
    commands(pacman=RECORD, docker=DOCKER)
    status, out, err = ask(*args)
    assert (status, out) == (1, "This machine lacks: debian-archive-keyring iproute2 mmdebstrap\n")
    assert "pacman has no package of mmdebstrap" in err and f"pull {host_module.DEBIAN_IMAGE}" in err
    command = "pacman -S --noconfirm --needed debian-archive-keyring iproute2"
    assert (command in err) == (not args)
    assert not args or (tmp_path / "installed").read_text().splitlines() == [command]


def test_without_a_known_manager_all_is_named_as_it_is(commands: Write, ask: Any, tmp_path: Path) -> None:
    commands(docker=DOCKER, zypper=RECORD)
    status, _out, err = ask("--install")
    assert status == 1 and "install " in err and f"pull {host_module.DEBIAN_IMAGE}" in err
    assert all(each in err for each in (*host_module.MANAGERS, "ip", "mmdebstrap", str(tmp_path / "keyring.gpg")))


# D5, and Ubuntu without Debian's keys, Fedora without catatonit in PATH.
@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ({}, {"ip", "podman", "netavark", "nft", "iptables", "mmdebstrap", "keyring"}),
        ({"docker": "exit 1"}, {"ip", "podman", "netavark", "nft", "iptables", "mmdebstrap", "keyring"}),
        ({"docker": DOCKER}, {"ip", "mmdebstrap", "keyring"}),
        ({"docker": DOCKER, "mmdebstrap": "", "ip": ""}, {"keyring"}),
        ({"podman": "exit 1", "netavark": "echo '{}'", "mmdebstrap": "", "ip": ""}, {"iptables", "keyring"}),
        ({"podman": f'[ "$3" = {host_module.DEBIAN_IMAGE} ]'}, {"ip", "netavark", "nft", "iptables"}),
    ],
)
def test_only_what_is_chosen_is_needed(
    commands: Write, ask: Any, there: dict[str, str], wanted: set[str], tmp_path: Path
) -> None:
    commands(**there)
    found = {Path(each).stem for each in host_module.lacking_packages("auto")} - {"venv", "runc"}
    assert found == wanted


def test_a_registry_makes_mmdebstrap_needless(commands: Write, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(docker=DOCKER, ip="")
    assert host_module.base_commands(None)
    monkeypatch.setattr(host_module, "registry_answers", lambda host: host == "registry-1.docker.io")
    assert host_module.base_commands(None) == set()


def test_a_mirror_that_the_engine_knows_makes_mmdebstrap_needless(commands: Write, ask: Any) -> None:
    commands(docker=DOCKER, ip="")
    assert host_module.base_commands(Engine.find("docker"))
    commands(docker='[ "$*" = "pull docker.io/library/debian:bookworm-slim" ]')
    assert host_module.base_commands(Engine("docker", "docker", dict(os.environ))) == set()


def test_a_python_without_venv_is_named(ask: Any, monkeypatch: pytest.MonkeyPatch, commands: Write) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    commands(**{"apt-get": ""})
    assert ask(inventory="inventories/staging")[:2] == (1, "This machine lacks: python3-venv\n")


@pytest.mark.parametrize(
    ("default", "named"), [(f"python3.{sys.version_info.minor}", "python3-venv"), ("python3.1", None), (None, None)]
)
def test_the_venv_is_that_of_the_python_that_was_named(
    ask: Any, monkeypatch: pytest.MonkeyPatch, commands: Write, tmp_path: Path, default: str | None, named: str | None
) -> None:
    """PYTHON=python3.12 beside the 3.10 of Ubuntu 22.04, whose python3-venv is of no use to it."""
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    monkeypatch.setattr(host_module, "SYSTEM_PYTHON", tmp_path / "python3", raising=False)
    if default:
        (tmp_path / default).touch()
        (tmp_path / "python3").symlink_to(default)
    commands(**{"apt-get": RECORD})
    wanted = named or f"python3.{sys.version_info.minor}-venv"
    assert ask("--install", inventory="inventories/staging")[:2] == (0, f"This machine lacks: {wanted}\n")
    assert (tmp_path / "installed").read_text().splitlines()[-1].endswith(f" {wanted}")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 1", "docker is installed but its daemon does not answer"),
        ("echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1", "does not answer this user"),
    ],
)
def test_whose_docker_does_not_answer_is_told_so_before_podman_is_wanted(
    commands: Write, ask: Any, script: str, said: str
) -> None:
    """Such as one who has stopped it, or may not use it: podman is not what this machine lacks."""
    commands(**{"apt-get": RECORD, "docker": script, "ip": ""})
    for args in ((), ("--install",)):
        _, out, err = ask(*args)
        assert "podman" in out and said in err.splitlines()[0] and "podman is not needed" in err.splitlines()[0]
    commands(docker=DOCKER)
    assert "docker is" not in ask()[2]


@pytest.mark.parametrize(
    ("text", "args", "engine"),
    [
        ("cluster_provider: embedded\n", "", "auto"),
        ("cluster_provider: embedded\nlocal_cluster_engine: docker\n", "", "docker"),
        ("cluster_provider: 'embedded' # ours\n", "-e local_cluster_engine=docker", "docker"),
        ('cluster_provider: "embedded"\n', """-e '{"cluster_provider": "existing"}'""", None),
        ("cluster_provider: existing\n", "-e cluster_provider=embedded", "auto"),
        ("# cluster_provider: embedded\ncluster_provider: existing\n", "", None),
        ("", "", None),
    ],
)
def test_an_inventory_without_an_embedded_cluster_needs_nothing(tmp_path: Path, text: str, args: str, engine: str | None) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text(text)
    (tmp_path / "hosts.yml").write_text("all: {hosts: {x: }}\n")
    for inventory in (tmp_path, tmp_path / "hosts.yml"):
        assert host_module.embedded(str(inventory), args) == engine


def test_one_host_with_an_embedded_cluster_is_enough(tmp_path: Path) -> None:
    for folder, text in (("group_vars", "cluster_provider: existing\n"), ("host_vars", "cluster_provider: embedded\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yml").write_text(text)
    assert host_module.embedded(str(tmp_path), "") == "auto"


@pytest.mark.parametrize("form", ["-e @{}", "-e '@{}'", "--extra-vars=@{}", "-e a=b -e @{}"])
def test_a_file_of_variables_counts_as_ansible_reads_it(tmp_path: Path, form: str) -> None:
    (tmp_path / "mine.yml").write_text("cluster_provider: embedded\nlocal_cluster_engine: docker\n")
    args = form.format(tmp_path / "mine.yml")
    assert host_module.embedded(str(ROOT / "inventories/staging"), args) == "docker"
    (tmp_path / "mine.yml").write_text("cluster_provider: existing\n")
    assert host_module.embedded(str(ROOT / "inventories/local"), args) is None


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "inventories").iterdir()))
def test_our_inventories_tell_whether_their_cluster_is_embedded(name: str) -> None:
    assert (host_module.embedded(str(ROOT / "inventories" / name), "") is not None) == (name == "local")


def test_a_fresh_clone_makes_no_environment_that_is_there(tmp_path: Path) -> None:
    """E9: its files are newer, and another checkout may be using the environment just then."""
    shown = "show: ; @echo $(RUN_VENV) $(DEV_VENV)"
    command = ["make", "--no-print-directory", "--directory", str(ROOT), f"CACHE={tmp_path}"]
    for folder in subprocess.run([*command, "--eval", shown, "show"], capture_output=True, text=True).stdout.split():
        assert subprocess.run([*command, "--question", f"{folder}/ready"], capture_output=True).returncode == 1
        Path(folder).mkdir(parents=True)
        Path(folder, "ready").touch()
        os.utime(Path(folder, "ready"), (1, 1))
        assert subprocess.run([*command, "--question", f"{folder}/ready"], capture_output=True).returncode == 0
    assert len(list((tmp_path / "venv").iterdir())) == 2


def test_such_an_inventory_runs_no_command(commands: Write, ask: Any) -> None:
    assert ask(inventory="inventories/staging") == (0, "", "")


# Systems and Pythons that can't be used


@pytest.mark.parametrize(
    ("python", "version"),
    [(None, "not there"), ('[ "$1" = --version ] && echo Python 3.10.12 || exit 1', "Python 3.10.12")],
)
def test_a_missing_or_old_python_is_named_first(commands: Write, tmp_path: Path, python: str | None, version: str) -> None:
    for system in ("Linux", "Darwin"):
        commands(dirname=f"echo {ROOT}", uname=f"echo {system}", **({"python3": python} if python else {}))
        done = subprocess.run(["/bin/sh", ROOT / "install-packages.sh"], capture_output=True, text=True)
        assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"flaskops needs Python 3.11 or newer, and python3 is {version}: ")
        assert ("INVENTORY=inventories/kind" in done.stderr) == (system == "Darwin")


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_script_needs_no_new_shell(shell: str) -> None:
    """A Mac's bash is 3.2."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    text = (ROOT / "install-packages.sh").read_text()
    assert text.startswith("#!/bin/sh\n") and "declare" not in text and "[[" not in text
    assert subprocess.run([path, "-n", ROOT / "install-packages.sh"], capture_output=True).stderr == b""


def test_a_mac_is_told_first_what_to_do_instead(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module.platform, "system", lambda: "Darwin")
    status, out, err = ask()
    assert (status, out, err) == (1, "", f"{host_module.NOT_LINUX}\n")
    assert "Linux" in host_module.NOT_LINUX and "INVENTORY=inventories/kind" in host_module.NOT_LINUX
    assert ask(inventory="inventories/staging")[0] == 0


def test_the_module_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(local_cluster.platform, "system", lambda: "Darwin")
    with patch_module_args({"files": str(tmp_path), "kubeconfig": str(tmp_path / "k")}), pytest.raises(SystemExit):
        local_cluster.main()
    assert json.loads(capsys.readouterr().out)["msg"] == host_module.NOT_LINUX


@pytest.mark.parametrize("name", ["podman", "buildah"])
def test_an_engine_of_a_mac_keeps_its_own_configuration(
    commands: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its podman asks a virtual machine, which containers.conf may name; there is no /proc. kind's image comes from it."""
    monkeypatch.setattr(engine_module, "PID_MAX", tmp_path / "missing")
    monkeypatch.setattr(engine_module, "platform", host_module.platform, raising=False)
    monkeypatch.setattr(host_module.platform, "system", lambda: "Darwin")
    commands(**{name: ""})
    assert "CONTAINERS_CONF" not in Engine.find("auto").env


# The certificates of Fedora and Arch


@pytest.mark.parametrize("present", ["debian", "fedora", "arch", "none"])
def test_the_bundle_is_one_resolved_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: str) -> None:
    debian, fedora, extracted = tmp_path / "debian.crt", tmp_path / "fedora.crt", tmp_path / "extracted.pem"
    monkeypatch.setattr(host_module, "BUNDLES", (str(debian), str(fedora)))
    wanted = {"debian": debian, "fedora": fedora, "arch": extracted}.get(present)
    if wanted:
        wanted.write_text("certificates")
    if present == "arch":
        debian.symlink_to(extracted)  # in another folder, which is not mounted with it
    assert host_module.host_bundle() == wanted


def test_an_empty_bundle_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an image has it whose certificates were never written: pip would trust nobody."""
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("certificates")
    monkeypatch.setattr(host_module, "BUNDLES", (str(tmp_path / "empty"), str(tmp_path / "full")))
    assert host_module.host_bundle() == tmp_path / "full"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora and RHEL, also without the links of /etc/pki/tls
        "/etc/ca-certificates/extracted/tls-ca-bundle.pem",  # Arch
        "/var/lib/ca-certificates/ca-bundle.pem",  # SUSE
        "/etc/ssl/certs/ca-bundle.crt",  # NixOS
    ],
)
def test_a_bundle_is_found_where_the_links_to_it_are_missing(path: str) -> None:
    assert path in host_module.BUNDLES


# Podman 5 and docker


@pytest.fixture
def podman(commands: Write) -> Engine:
    commands(podman="")
    return Engine.find("podman")


@pytest.mark.parametrize(
    ("nofile", "nproc", "limits"),
    [
        (20000, 900, '["nofile=20000:20000", "nproc=900:900"]'),
        (20000, 96365, '["nofile=20000:20000", "nproc=32768:32768"]'),
        (524288, resource.RLIM_INFINITY, '["nofile=524288:524288", "nproc=32768:32768"]'),
    ],
)
def test_podmans_limits_are_those_that_it_has(
    commands: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nofile: int, nproc: int, limits: str
) -> None:
    """E2: podman 5's build raises what is not named, which a root without CAP_SYS_RESOURCE may not."""
    (tmp_path / "pid_max").write_text("32768\n")
    monkeypatch.setattr(engine_module, "PID_MAX", tmp_path / "pid_max")
    monkeypatch.setattr(engine_module, "plain_host", lambda: True)
    hard = {resource.RLIMIT_NOFILE: nofile, resource.RLIMIT_NPROC: nproc}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1, hard[kind]))
    commands(podman="")
    conf = Path(Engine.find("podman").env["CONTAINERS_CONF"])
    assert f"default_ulimits = {limits}\n" in conf.read_text()
    assert [path.name for path in conf.parent.iterdir()] == [conf.name]


@pytest.mark.skipif(shutil.which("podman") is None or os.geteuid() != 0, reason="wants podman and root")
def test_podman_takes_these_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: in a build, and with what is mounted into it."""
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    engine, ref = Engine.find("podman", cache=str(tmp_path)), f"localhost/flaskops-test-{os.getpid()}:2"
    (tmp_path / "bundle").write_text("certificates")
    base = image_build.DEBIAN_BASE
    if not engine.image_exists(base):
        pytest.skip(f"{base} is not on this machine: run `make up` first")
    (tmp_path / "Containerfile").write_text(f"FROM {base}\nRUN test -s {image_build.CA_MOUNT}\n")
    try:
        engine.build(str(tmp_path), str(tmp_path / "Containerfile"), ref, {}, [f"{tmp_path}/bundle:{image_build.CA_MOUNT}:ro"])
        left = (
            engine.run(["run", "--rm", "--network", "none", ref, "sh", "-c", "ls /dev /run; ulimit -n"]).stdout.decode().split()
        )
    finally:
        engine.run(["rmi", "--force", ref])
    assert Path(image_build.CA_MOUNT).name not in left and left[-1] == str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


NEW, OLD = '{"version": "1.17.2", "default_fw_driver": "nftables"}', '{"version": "1.4.0"}'
IPTABLES = '[network]\nfirewall_driver = "iptables"\n'


@pytest.mark.parametrize(
    ("printed", "configured", "wanted"),
    [
        (NEW, "", "nft"),
        (OLD, "", "iptables"),
        ("netavark 1.0.1", "", "iptables"),
        (NEW, IPTABLES, "iptables"),
        (NEW, "# x", "nft"),
    ],
)
def test_podman_needs_the_command_of_its_firewall(
    podman: Engine, commands: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, configured: str, wanted: str
) -> None:
    """E5"""
    commands(netavark=f"echo {shlex.quote(printed)}")
    podman.env.pop("CONTAINERS_CONF")
    if configured:
        (tmp_path / "containers.conf.d").mkdir()
        (tmp_path / "etc.conf").write_text('[network]\nfirewall_driver = "nftables"\n')
        (tmp_path / "containers.conf.d/50-mine.conf").write_text(configured)
    assert host_module.firewall(podman) == wanted
    assert wanted in host_module.missing(host_module.podman_commands(podman))


@pytest.mark.parametrize("named", ["containers.conf.d/50-mine.conf", "mine.conf"])
def test_a_firewall_without_a_command_needs_none(
    podman: Engine, commands: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """firewalld is asked by D-Bus. A file may also be named in addition to the others."""
    commands(netavark=f"echo {shlex.quote(NEW)}")
    (tmp_path / "containers.conf.d").mkdir()
    (tmp_path / named).write_text('[network]\nfirewall_driver = "firewalld"\n')
    podman.env.pop("CONTAINERS_CONF", None)
    if named == "mine.conf":
        podman.env["CONTAINERS_CONF_OVERRIDE"] = str(tmp_path / named)
    assert host_module.podman_commands(podman) - {"runc"} == set()


def test_netavark_is_found_where_podman_looks_for_it(podman: Engine, commands: Write, tmp_path: Path) -> None:
    """As on NixOS, or with a podman of one's own."""
    assert {"/usr/local/libexec/podman", "/usr/local/lib/podman"} <= set(PLACES)
    folder = tmp_path / "helpers"
    folder.mkdir()
    (folder / "netavark").write_text(f"#!/bin/bash\necho {shlex.quote(NEW)}\n")
    (folder / "netavark").chmod(0o755)
    assert "netavark" in host_module.podman_commands(podman)
    (tmp_path / "etc.conf").write_text(f'[engine]\nhelper_binaries_dir = ["/nowhere", "{folder}", {{append = true}}]\n')
    for engine in (Engine("podman", "podman", {}), Engine.find("podman")):
        assert host_module.podman_commands(engine) - {"runc"} == {"nft"}


def test_a_plain_host_keeps_what_its_owner_has_configured(
    commands: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours stands in the place of all other files; firewall_driver and dns_servers are what our own messages tell to set."""
    monkeypatch.setattr(engine_module, "plain_host", lambda: True)
    (tmp_path / "usr.conf").write_text('[engine]\nruntime = "crun"\n[engine.runtimes]\nkata = ["/a b", "/c"]\n[network]\nx = 1\n')
    (tmp_path / "etc.conf").write_text('[containers]\ndns_servers = ["10.0.0.53"]\nhttp_proxy = false\n# é\nx = "é\\n"\n')
    (tmp_path / "containers.conf.d").mkdir()
    (tmp_path / "containers.conf.d/50-mine.conf").write_text(IPTABLES)
    (tmp_path / "containers.conf.d/60-broken.conf").write_text("[")
    commands(podman="", netavark=f"echo {shlex.quote(NEW)}")
    engine = Engine.find("podman")
    found = tomllib.loads(Path(engine.env["CONTAINERS_CONF"]).read_text())
    assert found["network"] == {"x": 1, "firewall_driver": "iptables"}
    assert found["engine"] == {**engine_module._PLAIN_ENGINE, "runtimes": {"kata": ["/a b", "/c"]}}
    del found["containers"]["default_ulimits"]
    assert found["containers"] == {"dns_servers": ["10.0.0.53"], "http_proxy": False, "x": "é\n"}
    assert host_module.firewall(engine) == "iptables"


DROP, ACCEPT = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n", "-P FORWARD ACCEPT\n"
ALLOWED = f"{DROP}-A DOCKER-USER -s 10.89.240.0/24 -j ACCEPT\n"


@pytest.mark.parametrize(
    ("rules", "driver", "warned"), [(DROP, NEW, True), (ACCEPT, NEW, False), (ALLOWED, NEW, False), (DROP, OLD, False)]
)
def test_a_docker_that_cuts_podmans_networks_off_is_warned_of(
    podman: Engine, commands: Write, rules: str, driver: str, warned: bool
) -> None:
    """E3"""
    commands(netavark=f"echo {shlex.quote(driver)}", iptables=f"echo -n {shlex.quote(rules)}")
    said = host_module.dropped(podman, "10.89.240.0/24")
    assert bool(said) == warned
    if warned:
        assert all(word in said for word in ("ip-forward-no-drop", "firewall_driver", "DOCKER-USER", "10.89.240.0/24"))
    docker = Engine("docker", "docker", {})
    assert host_module.dropped(docker, "10.89.240.0/24") == ""


UFW = "-P FORWARD DROP\n-N DOCKER-USER\n-N ufw-before-forward\n-A FORWARD -j ufw-before-forward\n"
REJECT = "-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n"


@pytest.mark.parametrize(
    ("rules", "words", "unsaid"),
    [
        (UFW, ("ufw route allow from 10.89.240.0/24", "ufw route allow to 10.89.240.0/24"), ("docker",)),
        ("-P FORWARD DROP\n", ("is DROP", "10.89.240.0/24", "firewall_driver"), ("docker", "ufw")),
        (REJECT, ("-A FORWARD -j REJECT --reject-with icmp-host-prohibited", "firewall_driver"), ("docker", "ufw")),
        (f"{DROP}-A DOCKER-USER -s 10.0.0.0/8 -j ACCEPT\n", (), ()),
        (f"{DROP}-A FORWARD -s 10.89.1.0/24 -i eth0 -j ACCEPT\n", ("DOCKER-USER",), ("ufw",)),
    ],
)
def test_who_cuts_podmans_networks_off_is_named(
    podman: Engine, commands: Write, rules: str, words: tuple[str, ...], unsaid: tuple[str, ...]
) -> None:
    """E3: ufw sets the same policy, and a machine of some clouds has a rule for it."""
    commands(netavark=f"echo {shlex.quote(NEW)}", iptables=f"echo -n {shlex.quote(rules)}")
    said = host_module.dropped(podman, "10.89.240.0/24")
    assert bool(said) == bool(words) and all(word in said for word in words)
    assert not [word for word in unsaid if word in said]


KERNEL = engine_module._three_numbers(host_module.platform.release())


def docker_info(*lines: str, endpoint: str = "unix:///x") -> str:
    printed = shlex.quote("\n".join(lines))
    return f'case "$1" in context) echo {endpoint};; info) echo {printed};; esac'


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (docker_info("/tmp", "Ubuntu 24.04", "6.6.41-0-virt", "[name=seccomp]"), "a virtual machine, with Linux 6.6.41-0-virt"),
        (docker_info("/tmp", "Debian", KERNEL, "[name=seccomp,profile=builtin name=rootless]"), "runs without root's rights"),
        (docker_info("/tmp", "Debian", KERNEL, "[name=seccomp,profile=builtin name=userns]"), ""),
        (docker_info("/tmp", "Debian", endpoint="tcp://localhost.example.com:2375"), "at tcp://localhost.example.com:2375"),
        (docker_info("/tmp", "Debian", endpoint="tcp://:2375"), ""),
    ],
)
def test_a_docker_that_can_not_run_a_node_is_refused(commands: Write, script: str, said: str) -> None:
    """D6: such as that of Colima, Rancher Desktop or Lima on Linux, whose folder may be here too, and a rootless one."""
    commands(docker=script)
    _, problem = host_module.home(Engine.find("docker"))
    assert (said in problem) if said else problem == ""


@pytest.mark.parametrize(
    ("release", "told"), [("6.1.0-28-amd64", "6.1.0-28-amd64"), ("6.17-rc3", "6.17.0-rc3"), ("5.15.1.4-WSL2", "5.15.1.4-WSL2")]
)
def test_a_kernel_is_compared_as_docker_writes_it(release: str, told: str) -> None:
    assert engine_module._three_numbers(release) == told


def test_who_is_not_root_may_not_see_the_engines_folder(commands: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """With userns-remap it is below a folder of root's; what is missing then are root's rights."""

    def denied(path: Path | str, **kwargs: Any) -> bool:
        if str(path) == "/data/1.1":
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    is_dir = Path.is_dir
    commands(docker=docker_info("/data/1.1", "Debian", KERNEL, "[name=userns]"))
    engine = Engine.find("docker")
    monkeypatch.setattr(Path, "is_dir", denied)
    monkeypatch.setattr(host_module.shutil, "disk_usage", denied)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = host_module.machine(engine, build=False)
    assert found["engine"] == "" and not [each for each in host_module.lacks(found, build=True) if "space" in each]


@pytest.mark.parametrize(
    ("engine", "script", "said"),
    [
        (
            "docker",
            'case "$1" in context) echo tcp://10.0.0.7:2375;; info) printf "/tmp\nDebian\n";; esac',
            "docker runs at tcp://10.0.0.7:2375",
        ),
        (
            "docker",
            'case "$1" in context) echo ssh://me@there;; info) printf "/tmp\nDebian\n";; esac',
            "docker runs at ssh://me@there",
        ),
        ("docker", 'case "$1" in context) echo tcp://127.0.0.1:2375;; info) printf "/tmp\nDebian\n";; esac', ""),
        (
            "docker",
            'case "$1" in context) echo unix:///x;; info) printf "/tmp\nDocker Desktop\n";; esac',
            "inventories/docker-desktop",
        ),
        ("docker", 'case "$1" in context) echo unix:///x;; info) printf "/nowhere\nDebian\n";; esac', "not on this machine"),
        ("podman", 'case "$1" in info) printf "/tmp\ntrue\n";; esac', "unset CONTAINER_HOST"),
        ("podman", 'case "$1" in info) printf "/tmp\nfalse\n";; esac', ""),
    ],
)
def test_an_engine_elsewhere_is_refused(commands: Write, engine: str, script: str, said: str) -> None:
    """D6"""
    commands(**{engine: script})
    _, problem = host_module.home(Engine.find(engine))
    assert (said in problem) if said else problem == ""


def test_docker_of_a_snap_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D6"""
    folder = tmp_path / "snap/bin"
    folder.mkdir(parents=True)
    (folder / "docker").write_text("#!/bin/sh\n")
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(NoEngineError, match="docker is a snap"):
        Engine.find("docker")


def test_docker_of_a_snap_behind_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: /snap/bin/docker is itself a link to snap."""
    (tmp_path / "snap").write_text("#!/bin/sh\n")
    (tmp_path / "snap").chmod(0o755)
    (tmp_path / "docker").symlink_to(tmp_path / "snap")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoEngineError, match="docker is a snap"):
        Engine.find("docker")


@pytest.mark.parametrize("form", ["script", "link"])
def test_podman_by_the_name_of_docker_is_no_docker(commands: Write, tmp_path: Path, form: str) -> None:
    """The package podman-docker: it knows no contexts, and what it has would be counted twice."""
    commands(podman="echo 5.4.0")
    if form == "script":
        commands(docker='echo "Emulate Docker CLI using podman." >&2\nexec podman "$@"')
    else:
        (tmp_path / "commands/docker").symlink_to(tmp_path / "commands/podman")
    assert Engine.find("auto").name == "podman"
    with pytest.raises(NoEngineError, match=r"docker is podman by another name \(package podman-docker\): choose podman"):
        Engine.find("docker")


OLD_CLIENT = (
    "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"
)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (f"Error response from daemon: {OLD_CLIENT}", f"refuses its command, which is of another version ({OLD_CLIENT})"),
        (
            'Failed to initialize: unable to resolve docker endpoint: context "x": context not found',
            'context "x": context not found)',
        ),
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "its daemon does not answer",
        ),
    ],
)
def test_why_docker_does_not_answer_is_told(commands: Write, printed: str, said: str) -> None:
    """docker 29 refuses the commands of old versions, and answers."""
    commands(docker=f"echo {shlex.quote(printed)} >&2; exit 1")
    with pytest.raises(NoEngineError) as raised:
        Engine.find("docker")
    (refused,) = raised.value.refused
    assert refused.endswith(said) and ("does not answer" in refused) == (OLD_CLIENT not in printed)


def test_who_has_chosen_an_engine_is_not_told_to_install_another(commands: Write) -> None:
    for name, advice in (("docker", "mend that, or choose another engine"), ("auto", "install podman or start docker")):
        with pytest.raises(
            NoEngineError, match=rf"^No container engine can be used \(.*docker is not installed.*\): {advice}\.$"
        ):
            Engine.find(name, only=("podman", "docker"))


class Recorder(Engine):
    """An engine that notes its calls and answers what it was given."""

    def __init__(self, name: str, answers: dict[str, bytes] | None = None, refused: tuple[str, ...] = ()) -> None:
        super().__init__(name, name, {})
        self.calls: list[list[str]] = []
        self.answers, self.refused = answers or {}, refused
        self.objects: set[str] = set()

    def run(self, args: list[str], input: bytes | None = None, timeout: float | None = None) -> Any:
        self.calls.append(args)
        if args[0] in self.refused:
            raise EngineError(f"'{self.name} {args[0]}' failed: no such host")
        return subprocess.CompletedProcess(args, 0, self.answers.get(args[0], b""), b"")

    def build(self, context: str, containerfile: str, ref: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append(["build", ref, Path(containerfile).read_text()])
        if "build" in self.refused:
            raise EngineError(f"'{self.name} build' failed")

    def image_exists(self, ref: str) -> bool:
        return ref in self.objects

    def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        return {"Id": name, "State": {"Running": False}, "Labels": {}} if name in self.objects else None


def cluster(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **params: Any) -> LocalCluster:
    monkeypatch.setattr(Engine, "find", classmethod(lambda cls, *args, **kwargs: engine))
    given = {
        "name": "c",
        "subnet": "10.89.240.0/24",
        "engine": "auto",
        "kubeconfig": str(tmp_path / "kubeconfig"),
        "api_port": 6443,
        "workers": 0,
    }
    files = {"files": str(ROOT / "roles/local_cluster/files"), "versions": {"kubernetes": "1.0", "etcd": "3", "coredns": "1"}}
    return LocalCluster({**given, **files, "wait_timeout": 600, "registry_mirrors": [], **params}, False)


NODE = (("container", "c-node"),)
OF_IMAGE = {"engine": "auto", "state": "present", "node": "c-node", "cluster": "c", "delivery": "import"}


@pytest.mark.parametrize(
    ("work", "params", "having"),
    [
        (lambda params: LocalCluster(params, True), {"name": "c"}, (*NODE, ("volume", "c-data"))),
        (lambda params: deliver.bring(SimpleNamespace(params=params)), OF_IMAGE, NODE),
        (
            lambda params: deliver.bring(SimpleNamespace(params=params)),
            OF_IMAGE | {"delivery": "kind"},
            (("container", "c-control-plane"),),
        ),
        (lambda params: binary_images.bring(params, True), OF_IMAGE | {"images": []}, NODE),
        (lambda params: given_images.make_available(params, True), OF_IMAGE | {"image": "x:1", "archive": None}, NODE),
    ],
)
def test_whoever_needs_a_node_takes_the_engine_that_has_it(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[Any], Any], params: dict[str, Any], having: Any
) -> None:
    """D2"""
    asked: list[Any] = []

    def find(cls: Any, preferred: str = "auto", **kwargs: Any) -> Engine:
        asked.append(kwargs["having"])
        raise EngineError("as far as that")

    monkeypatch.setattr(Engine, "find", classmethod(find))
    with pytest.raises(EngineError, match="as far as that"):
        work({"engine": "auto", **params})
    assert asked == [having]


def test_the_node_keeps_its_rights_under_userns_remap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """D6"""
    engine = Recorder("docker")
    cluster(engine, monkeypatch, tmp_path).control.run("node:1")
    assert engine.calls[0][engine.calls[0].index("--userns") :][:2] == ["--userns", "host"]


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_pods_are_not_limited_to_the_threads_of_one_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """podman gives each 2048, which a node with some dozens of pods has."""
    engine = Recorder(name)
    cluster(engine, monkeypatch, tmp_path).control.run("node:1")
    assert engine.calls[0][engine.calls[0].index("--pids-limit") :][:2] == ["--pids-limit", "-1"]


@pytest.mark.parametrize(
    ("name", "proxies", "given"),
    [
        ("docker", '{"default": {"httpsProxy": "http://p.test:1", "noProxy": "intra.test"}}', True),
        ("podman", '{"default": {"httpsProxy": "http://p.test:1", "noProxy": "intra.test"}}', False),
        ("docker", "null", False),
    ],
)
def test_a_proxy_of_dockers_configuration_is_not_for_the_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, proxies: str, given: bool
) -> None:
    """docker gives it to every container, and podman does not know it."""
    for each in ("HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(f'{{"proxies": {proxies}}}')
    engine = Recorder(name)
    cluster(engine, monkeypatch, tmp_path).control.run("node:1")
    line = " ".join(engine.calls[0])
    assert ("--env NO_PROXY=intra.test,localhost,127.0.0.0/8,10.89.240.0/24," in line) == given == ("--env" in line)


def test_a_place_that_docker_keeps_for_a_container_that_is_gone_is_given_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """M1: a daemon that was killed says 'endpoint with name c-node already exists in network c', again and again."""

    class Forgetful(Recorder):
        def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
            kept = {"ep-1": {"Name": "c-node"}, "2": {"Name": "c-worker-1"}}
            return {"Labels": {LABEL: "c"}, "Containers": kept} if kind == "network" else None

    monkeypatch.setattr(node_module, "CGROUPS", tmp_path)
    for name, calls in (("docker", [["network", "disconnect", "--force", "c", "c-node"]]), ("podman", [])):
        engine = Forgetful(name)
        cluster(engine, monkeypatch, tmp_path).control.remove_container()
        assert engine.calls == calls


# The node's Debian


def test_the_nodes_debian_comes_from_a_registry_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[str] = []
    monkeypatch.setattr(build, "debian_base", lambda engine, ref, include: made.append(ref))
    engine = Recorder("docker")
    build.build_base(engine)
    (pull, (_, ref, containerfile)) = engine.calls
    assert pull == ["pull", "docker.io/library/debian:bookworm-slim"] and ref == host_module.NODE_BASE
    assert containerfile.startswith("FROM docker.io/library/debian:bookworm-slim\n") and " catatonit " in f"{containerfile} "
    assert made == []
    for refused in ("pull", "build"):
        build.build_base(Recorder("podman", refused=(refused,)))
    assert made == [host_module.NODE_BASE] * 2


def test_a_base_that_is_there_is_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = Recorder("docker")
    engine.objects = {host_module.NODE_BASE}
    build.build_base(engine)
    assert engine.calls == []


def test_both_reasons_are_told_where_neither_way_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine_module, "KEYRING", tmp_path / "missing.gpg")
    monkeypatch.setattr(engine_module.shutil, "which", lambda name, **kwargs: "/bin/false")
    with pytest.raises(ClusterError, match=r"missing\.gpg is missing, .*no such host"):
        build.build_base(Recorder("podman", refused=("pull",)))


def test_the_pause_program_is_the_nodes_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No catatonit of this machine, which Fedora has where nobody looks."""
    engine, archived = Recorder("podman", {"run": b"ELF"}), {}
    engine.objects = {host_module.NODE_BASE}

    def write(archive: Path, image: str, binary: Path, *args: Any) -> None:
        archived[image] = binary.read_bytes() if binary.exists() else b""

    monkeypatch.setattr(image_archive, "write", write)
    monkeypatch.setenv("PATH", "/nowhere")
    names = ("kubernetes", "etcd", "coredns")
    for name in names:
        (tmp_path / name).mkdir()
    made = cluster(engine, monkeypatch, tmp_path, binaries={name: str(tmp_path / name) for name in names})
    build.build_image(engine, made.params, "node:1")
    assert archived[build.PAUSE] == b"ELF"
    assert engine.calls[0][-3:] == ["cat", host_module.NODE_BASE, "/usr/bin/catatonit"]


def test_a_small_folder_for_what_is_temporary_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where /tmp is memory, or a file system of its own: what a node is built of is most of a gigabyte."""
    (tmp_path / "kubernetes").mkdir()
    (tmp_path / "kubernetes/kubelet").touch()
    engine = Recorder("podman", {"run": b"ELF"})
    engine.objects = {host_module.NODE_BASE}
    made = cluster(engine, monkeypatch, tmp_path, binaries={"kubernetes": str(tmp_path / "kubernetes")})
    for error, words in (
        (OSError(28, "No space left on device"), rf"^{tempfile.gettempdir()} .* set TMPDIR"),
        (OSError("other"), "^other"),
    ):
        monkeypatch.setattr(build.shutil, "copy", Mock(side_effect=error))
        with pytest.raises((ClusterError, OSError), match=words):
            build.build_image(engine, made.params, "node:1")


SPARSE = """\
#!/bin/bash
# As mmdebstrap 1.6: what it writes has a sparse file.
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
printf begin > "$folder/holes"; truncate -s 3M "$folder/holes"; printf end >> "$folder/holes"
ln "$folder/holes" "$folder/hard"; ln -s holes "$folder/soft"
tar -C "$folder" --sparse --numeric-owner --format={format} -c .
"""
CONTENT = b"begin" + bytes(3 * MIB - 5) + b"end"


@pytest.mark.parametrize("form", ["pax", "gnu"])
def test_an_archive_of_mmdebstrap_has_no_sparse_member_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """E1: what the engines rebuild of such a layer is longer than what they took in."""
    (tmp_path / "mmdebstrap").write_text(SPARSE.replace("{format}", form))
    (tmp_path / "podman").write_text(f'#!/bin/bash\n[ "$1" = import ] && cat > {tmp_path}/taken || exit 1\n')
    for name in ("mmdebstrap", "podman"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(engine_module, "KEYRING", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with tarfile.open(fileobj=io.BytesIO(subprocess.run([tmp_path / "mmdebstrap"], capture_output=True).stdout)) as archive:
        assert [member.name for member in archive if member.issparse()]
    assert engine_module.debian_base(Engine.find("podman"), "localhost/x:1", ["python3"])
    with tarfile.open(tmp_path / "taken") as archive:
        members = {Path(member.name).name: member for member in archive}
        assert not [member for member in members.values() if member.issparse() or "GNU.sparse.major" in member.pax_headers]
        first = next(members[name] for name in ("holes", "hard") if members[name].isreg())
        content = archive.extractfile(first)
        assert content and content.read() == CONTENT and first.size == len(CONTENT)
        assert sorted(member.type for member in members.values()) == sorted(
            [tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE]
        )


@pytest.mark.skipif(shutil.which("podman") is None or os.geteuid() != 0, reason="wants podman and root")
def test_an_image_on_such_a_base_can_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E1"""
    (tmp_path / "mmdebstrap").write_text(SPARSE.replace("{format}", "pax"))
    (tmp_path / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(engine_module, "KEYRING", tmp_path)
    engine, ref = Engine.find("podman"), f"localhost/flaskops-test-{os.getpid()}:1"
    engine_module.debian_base(engine, ref, [])
    try:
        engine.run(["save", "--output", str(tmp_path / "image.tar"), ref])
        assert tarfile.is_tarfile(tmp_path / "image.tar")
    finally:
        engine.run(["rmi", ref])


def test_debians_keys_are_named_to_mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would ask gpg whether apt knows them: without gpg, Ubuntu's apt takes nothing of Debian."""
    scripts = {
        "mmdebstrap": f'printf "%s\\n" "$@" > {tmp_path}/called; tar -c -T /dev/null',
        "podman": '[ "$1" = import ] && cat',
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engine_module, "KEYRING", tmp_path)
    assert engine_module.debian_base(Engine.find("podman"), "localhost/x:1", ["python3"])
    assert f"--keyring={tmp_path}" in (tmp_path / "called").read_text().splitlines()


@pytest.mark.parametrize(
    ("mmdebstrap", "podman"),
    [("echo no network >&2; exit 7", "cat >/dev/null"), ("head -c 3000000 /dev/zero", "echo no space >&2; exit 1")],
)
def test_a_base_that_can_not_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mmdebstrap: str, podman: str
) -> None:
    for name, text in {"mmdebstrap": mmdebstrap, "podman": f'[ "$1" = image ] && exit 1; {podman}'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engine_module, "KEYRING", tmp_path)
    with pytest.raises(EngineError, match=r"could not be made by mmdebstrap: no (network|space)"):
        engine_module.debian_base(Engine.find("podman"), "localhost/x:1", [])


def test_how_a_base_is_made_is_in_its_name_and_in_the_tags_of_what_is_built_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1: what was made wrongly before is not taken for right."""
    assert engine_module.debian_ref("python", image_build.DEBIAN_PACKAGES) == image_build.DEBIAN_BASE
    before = engine_module.debian_ref("x", ["a"])
    monkeypatch.setattr(engine_module, "_BOOTSTRAP", ["--other"])
    assert before.rsplit("-", 1)[0] == "localhost/x:bookworm" and engine_module.debian_ref("x", ["a"]) != before
    digests: list[str] = []
    monkeypatch.setattr(deliver, "content_tag", lambda tree, file, args, base: digests.append(base) or "0" * 12)
    for base in ("auto", "debian", "registry"):
        params = {key: value.get("default") for key, value in container_image.ARGUMENTS["argument_spec"].items()}
        params |= {"base": base, "repository": "localhost/a", "containerfile_content": "FROM x"}
        deliver.present(type("Module", (), {"params": params, "check_mode": True}), Recorder("podman"))
    assert [image_build.DEBIAN_BASE in each for each in digests] == [True, True, False]


# What the documentation promises of machines


def test_the_documentation_names_what_is_left_and_what_is_supported() -> None:
    """D6, E7, E8"""
    assert "`docker-buildx-plugin`" in (ROOT / "roles/local_cluster/README.md").read_text()
    text = (ROOT / "docs/machines.md").read_text()
    assert all(word in text for word in ("`inet netavark`", "`ip_forward`", "`FORWARD`"))
    assert "Python 3.11 to 3.13 are supported. 3.14 works too" in text
    assert 'target-version = "py311"' in (ROOT / "pyproject.toml").read_text()
    assert "(3, 11)" in (ROOT / "install-packages.sh").read_text()
    assert host_module.DEBIAN_IMAGE in text and image_build.CA_MOUNT in text
    assert all(manager in text for manager in host_module.MANAGERS)


# cgroup v2


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """The files of a root of cgroup v2, with the processes 7 and 8 in it."""
    root = tmp_path / "cgroup"
    (root / "init").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    (root / "cgroup.procs").write_text("7\n8\n")
    return root


def hand_over(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPTS / "cgroups.sh", root], capture_output=True, text=True, timeout=60)


def test_controllers_are_given_to_the_groups(groups: Path) -> None:
    assert hand_over(groups).returncode == 0
    assert (groups / "cgroup.subtree_control").read_text() == "+cpu +memory +pids\n"
    assert (groups / "init/cgroup.procs").read_text() == "8\n"
    assert "cgroups.sh /sys/fs/cgroup" in (SCRIPTS / "entrypoint.sh").read_text().splitlines()


def test_a_process_that_ends_or_comes_meanwhile_does_not_stop_the_node(groups: Path) -> None:
    """C1: moving a process that has ended fails, and so does giving while one that came is in the root."""
    (groups / "init/cgroup.procs").symlink_to("/dev/full")
    busy = groups / "cgroup.subtree_control"
    busy.symlink_to("/dev/full")

    def leave() -> None:
        busy.unlink()
        (groups / "init/cgroup.procs").unlink()

    timer = threading.Timer(0.5, leave)
    timer.start()
    assert hand_over(groups).returncode == 0
    assert busy.read_text() == "+cpu +memory +pids\n"


def test_a_group_that_stays_busy_is_told(groups: Path, tmp_path: Path) -> None:
    (groups / "cgroup.subtree_control").symlink_to("/dev/full")
    script = (SCRIPTS / "cgroups.sh").read_text().replace("sleep 0.1", ":")
    done = subprocess.run(["bash", "-c", script, "cgroups.sh", groups], capture_output=True, text=True)
    assert done.returncode == 1 and f"The controllers of {groups} " in done.stderr and "No space left" in done.stderr


def test_cgroup_v1_needs_nothing(tmp_path: Path) -> None:
    assert hand_over(tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["libpod-{}", "machine.slice/libpod-{}.scope", "docker/{}", "system.slice/docker-{}.scope"])
def test_control_groups_of_any_manager_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    """C4: where the monitor was killed too."""
    root = tmp_path / "groups"
    (root / place.format("c-node") / "kubepods/pod").mkdir(parents=True)
    (root / "libpod-other").mkdir()
    monkeypatch.setattr(node_module, "CGROUPS", root)
    engine = Recorder("podman")
    engine.objects = {"c-node"}
    monkeypatch.setattr(node_module.subprocess, "run", lambda *args, **kwargs: engine.objects.clear())
    cluster(engine, monkeypatch, tmp_path).control.remove_container()
    assert not list(root.rglob("*c-node*")) and (root / "libpod-other").exists()


def test_a_control_group_that_ends_meanwhile_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As those of other containers and of services do at any moment."""
    (tmp_path / "groups/ended").mkdir(parents=True)
    (tmp_path / "groups/libpod-c-node").mkdir()
    monkeypatch.setattr(node_module, "CGROUPS", tmp_path / "groups")
    engine, scandir = Recorder("podman"), os.scandir
    engine.objects = {"c-node"}
    monkeypatch.setattr(node_module.subprocess, "run", lambda *args, **kwargs: engine.objects.clear())

    def look(path: Any) -> Any:
        if str(path).endswith("/ended"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return scandir(path)

    node = cluster(engine, monkeypatch, tmp_path).control
    monkeypatch.setattr(os, "scandir", look)
    node.remove_container()
    assert not (tmp_path / "groups/libpod-c-node").exists()


# Slow machines


def test_kubeadms_limits_follow_wait_timeout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """C3"""
    engine = Recorder("podman")
    sent: list[str] = []
    made = cluster(engine, monkeypatch, tmp_path, wait_timeout=900)
    said = "pulled a:1\nimported b:1\n"
    monkeypatch.setattr(made.control, "exec", lambda *words, text, timeout: sent.extend((text, str(timeout))) or said)
    made._bootstrap()
    assert made.images == {"a:1": "pulled", "b:1": "imported"}
    first = next(yaml.safe_load_all(sent[0]))
    assert first["kind"] == "InitConfiguration" and set(first["timeouts"].values()) == {"900s"}
    assert {"kubernetesAPICall", "controlPlaneComponentHealthCheck", "kubeletHealthCheck"} <= set(first["timeouts"])
    assert int(sent[1]) > 900  # kubeadm says itself what was late


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (EngineError("could not bootstrap the admin user: client rate limiter: context deadline exceeded"), True),
        (engine_module.SlowEngineError("'podman exec' gave no answer within 1800 s"), True),
        (EngineError('error execution phase upload-config: Post "https://10.0.0.2:6443": net/http: TLS handshake timeout'), True),
        (EngineError("[kubelet-check] The kubelet is not healthy after 10m0.000s"), True),
        (EngineError("'podman exec' failed with status 137: "), False),
    ],
)
def test_a_slow_machine_is_told_what_to_raise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: EngineError, hint: bool
) -> None:
    made = cluster(Recorder("podman"), monkeypatch, tmp_path)

    def fail(*words: str, **kwargs: Any) -> str:
        raise error

    monkeypatch.setattr(made.control, "exec", fail)
    with pytest.raises((ClusterError, EngineError)) as raised:
        made._bootstrap()
    assert str(error) in str(raised.value) and ("raise 'wait_timeout'" in str(raised.value)) == hint


def test_a_node_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = Recorder("podman", {"logs": b"x\nThe controllers could not be given\n"}, refused=("exec",))
    engine.objects = {"c-node"}
    with pytest.raises(ClusterError, match=r"c-node ended \(x \| The controllers could not be given\)"):
        cluster(engine, monkeypatch, tmp_path).control.containerd()


def test_an_engine_that_keeps_no_logs_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as docker with the log-driver none, or podman with log_driver."""
    engine = Recorder("docker", refused=("exec", "logs"))
    engine.objects = {"c-node"}
    with pytest.raises(ClusterError, match=r"^The node c-node ended \('docker logs' failed"):
        cluster(engine, monkeypatch, tmp_path).control.containerd()


def test_a_node_that_ends_while_it_is_waited_for_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The end of a log can't be read there any more."""
    engine = Recorder("podman", {"logs": b"Killed"}, refused=("exec",))
    engine.objects = {"c-node"}
    with pytest.raises(ClusterError, match=r"^The node c-node ended \(Killed\)"):
        cluster(engine, monkeypatch, tmp_path).control.until(lambda: ["the API server"])


@pytest.mark.parametrize("name", ["docker", "podman"])
@pytest.mark.parametrize("broken", ["text", "folder", "link"])
def test_a_broken_resolv_conf_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, broken: str) -> None:
    """Some have a comment in another encoding, and docker makes a folder of what it can't mount."""
    path, text = tmp_path / "resolv.conf", b"# g\xe9n\xe9r\xe9\nnameserver 8.8.8.8\n"
    if broken == "text":
        path.write_bytes(text)
    elif broken == "folder":
        path.mkdir()
    else:
        path.symlink_to("gone")
    monkeypatch.setattr(node_module, "RESOLV_CONF", path)
    warning = cluster(Recorder(name, {"exec": text, "run": text}), monkeypatch, tmp_path).control.give_name_servers("node:1")
    assert ("none at all" in warning) == (broken != "text")


def test_docker_without_a_default_network_has_this_machines_name_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its daemon.json may say "bridge": "none"."""

    class Bridgeless(Recorder):
        def run(self, args: list[str], input: bytes | None = None, timeout: float | None = None) -> Any:
            if "tee" in args:
                written.append((input or b"").decode())
            if args[0] == "run":
                raise EngineError("'docker run --rm' failed with status 125: docker: Error response: network bridge not found.")
            return super().run(args, input, timeout)

    written: list[str] = []
    monkeypatch.setattr(node_module, "RESOLVED", tmp_path / "resolved.conf")
    monkeypatch.setattr(node_module, "RESOLV_CONF", tmp_path / "resolv.conf")
    node = cluster(Bridgeless("docker"), monkeypatch, tmp_path).control
    (tmp_path / "resolv.conf").write_text("search lan\nnameserver 127.0.0.53\n")
    assert "(127.0.0.53), so docker has them ask none:" in node.give_name_servers("node:1")
    (tmp_path / "resolved.conf").write_text("search lan\nnameserver 10.0.0.53\n")
    assert node.give_name_servers("node:1") == ""
    assert written == ["search lan\n", "search lan\nnameserver 10.0.0.53\n"]


def test_modules_of_a_kernel_that_was_updated_want_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: Write
) -> None:
    """Arch removes those of the kernel that runs. A container has none at all."""
    monkeypatch.setattr(host_module, "LIB_MODULES", tmp_path / "modules")
    monkeypatch.setattr(host_module, "MODULES", {"overlay": tmp_path / "gone"})
    monkeypatch.setattr(host_module.platform, "release", lambda: "6.1.0")
    commands(modprobe="exit 1", docker=docker_info("/tmp", "Arch Linux", "6.1.0", ""))

    def said() -> list[str]:
        found = host_module.machine(Engine.find("docker"), build=False)
        return [each for each in host_module.lacks(found, build=False) if "module" in each]

    assert said() == ["the kernel module overlay"]
    (tmp_path / "modules/6.2.0").mkdir(parents=True)
    told = f"the kernel that runs, 6.1.0, has none left in {tmp_path / 'modules'}: restart this machine"
    assert said() == [f"the kernel module overlay ({told})"]
    (tmp_path / "modules/6.1.0").mkdir()
    assert said() == ["the kernel module overlay"]


# Podman's locks


def segment(taken: list[int], groups: int = 64, mutex: int = 40) -> bytes:
    """podman's file of locks, some of them taken."""
    bitmaps = [sum(1 << lock % 32 for lock in taken if lock // 32 == group) for group in range(groups)]
    head = struct.pack(f"<HH4x{mutex}xII", 0x87D1, 0, groups, 32 * groups)
    return head + b"".join(struct.pack(f"<I4x{32 * mutex}x", bitmap) for bitmap in bitmaps)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (segment([0, 1, 2, 40]), ""),
        (segment([0]), "(4 objects have 1): run 'podman system renumber' while no container runs"),
        (segment([]), "4 objects have 0"),
        (segment([], mutex=48), ""),  # of another processor
        (b"something else", ""),
        (None, ""),
    ],
)
def test_lost_locks_are_recognised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, commands: Write, content: bytes | None, said: str
) -> None:
    """M1: before anything is changed, as the machine is looked at."""
    monkeypatch.setattr(host_module, "MUTEX", {host_module.platform.machine(): 40})
    monkeypatch.setattr(host_module, "LOCKS", tmp_path / "libpod_lock")
    if content is not None:
        (tmp_path / "libpod_lock").write_bytes(content)
    listed = "container) echo c1;; volume) echo v1; echo v2;; pod) echo p1;; *) exit 1;;"
    commands(podman=f'case "$1" in info) printf "/tmp\\nfalse\\n";; {listed} esac')
    problem = host_module.machine(Engine.find("podman"), build=False)["engine"]
    assert (said in problem) if said else problem == ""
    assert host_module.lost_locks(Engine("docker", "docker", {})) == ""


LOSE = """\
set -e
mount -t tmpfs tmpfs /dev/shm
podman volume create one
podman volume create two
{look}
rm /dev/shm/libpod_lock
{look}
podman system renumber
{look}
"""


@pytest.mark.skipif(shutil.which("podman") is None or os.geteuid() != 0, reason="wants podman and root")
def test_podmans_own_locks_are_read() -> None:
    """M1, with a podman and a /dev/shm of its own."""
    real = shutil.which("podman")
    with tempfile.TemporaryDirectory() as folder:  # podman wants short paths
        wrapped = Path(folder) / "podman"
        wrapped.write_text(f'#!/bin/sh\nexec {real} --root {folder}/r --runroot {folder}/n --tmpdir {folder}/t "$@"\n')
        wrapped.chmod(0o755)
        text = "from plugins.module_utils.node import engine, host; print('LOST', host.lost_locks(engine.Engine.find('podman')))"
        env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        command = ["unshare", "--mount", "bash", "-c", LOSE.replace("{look}", shlex.join([sys.executable, "-c", text]))]
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    if "unshare: " in done.stderr or "mount: " in done.stderr:
        pytest.skip(f"no mounts of one's own here: {done.stderr.strip()}")
    said = [line.removeprefix("LOST").strip() for line in done.stdout.splitlines() if line.startswith("LOST")]
    assert said[0] == "" and said[1].startswith("podman has lost its locks (2 objects have 0): ") and said[2:] == [""], done


@pytest.mark.parametrize("gone", [True, False])
def test_down_counts_what_is_gone_as_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gone: bool) -> None:
    """M1: podman removes the volume and then fails to free its lock."""

    class Forgetful(Recorder):
        def run(self, args: list[str], input: bytes | None = None, timeout: float | None = None) -> Any:
            if args[1] == "rm":
                if gone:
                    self.objects.discard(args[-1])
                raise EngineError(
                    "'podman volume rm' failed with status 125: Error: freeing lock for volume c-data: no such file"
                )
            return super().run(args, input, timeout)

        def labels(self, kind: str, name: str) -> dict[str, str] | None:
            return {LABEL: "c"} if name in self.objects else None

    engine = Forgetful("podman")
    engine.objects = {"c-data", "c"}
    down = cluster(engine, monkeypatch, tmp_path)
    if gone:
        down.absent()
        assert down.actions == ["remove the volume c-data", "remove the network c"]
    else:
        with pytest.raises(EngineError, match="freeing lock"):
            down.absent()
