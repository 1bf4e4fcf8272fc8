# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other people's machines have and this one has not: their networks, disks, engines elsewhere, and environments."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils import toolchain
from ansible_collections.flaskops.observability.plugins.module_utils.image.build_context import TreeEntry, write_tree
from ansible_collections.flaskops.observability.plugins.module_utils.node import build
from ansible_collections.flaskops.observability.plugins.module_utils.node import cluster as cluster_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import host as host_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import node as node_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import options as options_module
from ansible_collections.flaskops.observability.plugins.module_utils.node.cluster import LocalCluster
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import LABEL, Engine, NoEngineError
from ansible_collections.flaskops.observability.plugins.module_utils.node.node import ClusterError

from tests.unit.modules.test_local_cluster import FIT, no_objects, run  # noqa: F401
from tests.unit.modules.test_machines import DOCKER, NEW, ROOT, Recorder, Write, cluster, commands, podman  # noqa: F401

# A docker of a colleague's machine, which has a cluster of the default name.
REMOTE = """
echo "$*" >> ${{0%/*}}/../called
case "$*" in
version*) echo 28.5;;
"context inspect"*) echo ssh://me@shared.test;;
"volume ls"*) echo c-data;;
"container inspect c-node" | "volume inspect c-data" | "network inspect c")
  echo '[{{"Id": "1", "Name": "c", "State": {{"Running": true}}, "Labels": {{"{label}": "c"}}}}]';;
*inspect*) exit 1;;
esac"""
NOTHING = 'case "$1 $2" in *inspect) exit 1;; esac'
HALVES = "0.0.0.0/1 via 10.8.0.1 dev tun0 \ndefault via 192.168.1.1 dev wlan0 \n128.0.0.0/1 via 10.8.0.1 dev tun0 \n"


@pytest.mark.parametrize("subnet", ["10.89.240.0/24", "172.30.1.0/24", "192.168.77.0/24"])
def test_a_vpn_that_takes_all_traffic_takes_no_subnet(commands: Write, subnet: str) -> None:  # noqa: F811
    """OpenVPN's redirect-gateway makes two halves of the default route."""
    commands(ip=f"echo {shlex.quote(HALVES)}")
    options_module.check_network(subnet)


@pytest.mark.parametrize("line", ["10.89.0.0/16 dev tailscale0 table 52", "blackhole 10.89.240.0/28 table 51820"])
def test_a_route_of_another_table_is_seen(commands: Write, line: str) -> None:  # noqa: F811
    """Tailscale and wg-quick have tables of their own, which are asked before the main one."""
    local = "local 10.89.240.9 dev eth0 table local proto kernel"
    commands(ip=f"""case "$*" in *"table all") echo "{local}"; echo "{line}";; *) echo "default via 10.77.0.1 dev eth0";; esac""")
    with pytest.raises(ClusterError, match=f"overlaps the route '{line}'"):
        options_module.check_network("10.89.240.0/24")


def test_an_address_alone_is_no_route(commands: Write) -> None:  # noqa: F811
    commands(ip='echo "local 10.89.240.9 dev eth0 table local proto kernel"')
    options_module.check_network("10.89.240.0/24")


@pytest.mark.parametrize(
    "network",
    [
        {"name": "theirs", "subnets": [{"subnet": "10.89.240.0/24", "gateway": "10.89.240.1"}]},
        {"Name": "theirs", "IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "10.89.0.1/16"}]}},
    ],
)
def test_the_network_of_a_stopped_cluster_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, network: dict[str, Any]
) -> None:
    """No route shows it, and the engine would say so after the node image was built."""

    class Other(Recorder):
        def run(self, args: list[str], **_: Any) -> Any:
            return SimpleNamespace(stdout=b"theirs\n" if args[1] == "ls" else json.dumps([network]).encode())

    monkeypatch.setattr(cluster_module, "check_port", Mock())
    with pytest.raises(ClusterError, match="overlaps that of the network theirs: choose another 'subnet'"):
        cluster(Other("podman"), monkeypatch, tmp_path).check_free()


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_a_port_that_is_taken_is_refused_beside_a_node_that_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str
) -> None:
    """Where it was changed, the node would be removed and could not be run again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        class Running(Recorder):
            has = 6443

            def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
                ports = {"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.has)}], "80/tcp": None}
                return {"State": {"Running": True}, "HostConfig": {"PortBindings": ports}, "Labels": {LABEL: "c"}}

        runs = Running(engine)
        made = cluster(runs, monkeypatch, tmp_path, api_port=port)
        with pytest.raises(ClusterError, match=f"{port} .*is taken"):
            made.check_free()
        runs.has = port
        made.check_free()


@pytest.mark.parametrize(
    ("env", "config", "given"),
    [
        ({"https_proxy": "http://proxy.test:3128", "no_proxy": "a"}, {}, ["https_proxy", "no_proxy"]),
        ({"HTTPS_PROXY": "http://me:word@proxy.test"}, {}, ["HTTPS_PROXY"]),
        ({"https_proxy": "http://127.0.0.1:3128"}, {}, []),
        ({"https_proxy": "http://me@localhost:3128"}, {}, []),
        ({"https_proxy": "http://proxy.test"}, {"proxies": {"default": {"httpsProxy": "http://other"}}}, []),
        ({}, {}, []),
    ],
)
def test_steps_of_a_docker_build_have_the_proxy(
    commands: Write,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    config: dict[str, Any],
    given: list[str],
) -> None:
    """podman gives it to them by itself; docker what is in its configuration, or given. Its value stays off the command line."""
    for kind in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(kind, raising=False)
        monkeypatch.delenv(kind.upper(), raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    commands(docker=f'echo "$*" >> {tmp_path}/called')
    Engine("docker", "docker", dict(os.environ)).build(str(tmp_path), str(tmp_path / "Containerfile"), "x:1")
    assert re.findall(r"--build-arg (\S+)", (tmp_path / "called").read_text()) == given


@pytest.mark.parametrize("servers", [["fd00::1", "fe80::1%wlan0"], ["127.0.0.53", "fd00::1"]])
@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_servers_that_only_ipv6_reaches_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, servers: list[str]
) -> None:
    (tmp_path / "resolv.conf").write_text("".join(f"nameserver {each}\n" for each in servers))
    monkeypatch.setattr(node_module, "RESOLV_CONF", tmp_path / "resolv.conf")
    given = b"nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    warning = cluster(Recorder(engine, {"exec": given, "run": given}), monkeypatch, tmp_path).control.give_name_servers("node:1")
    assert "fd00::1" in warning and "8.8.8.8" in warning


def test_a_full_disk_is_no_release_that_cannot_be_reached(tmp_path: Path) -> None:
    """It would be built for half an hour then, on the same disk."""
    (tmp_path / "x").write_bytes(b"x" * 100000)
    with pytest.raises(OSError, match="/dev/full") as raised:
        toolchain.fetch((tmp_path / "x").as_uri(), Path("/dev/full"))
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize("text", ["No space left on device", "Auf dem Gerät ist kein Speicherplatz mehr verfügbar"])
def test_a_full_temporary_folder_is_told_in_any_language(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    (tmp_path / "kubernetes").mkdir()
    (tmp_path / "kubernetes/kubelet").touch()
    engine = Recorder("podman", {"run": b"ELF"})
    engine.objects = {host_module.NODE_BASE}
    made = cluster(engine, monkeypatch, tmp_path, binaries={"kubernetes": str(tmp_path / "kubernetes")})
    monkeypatch.setattr(build.shutil, "copy", Mock(side_effect=OSError(errno.ENOSPC, text)))
    with pytest.raises(ClusterError, match="set TMPDIR"):
        build.build_image(engine, made.params, "node:1")


@pytest.mark.usefixtures("no_objects")
def test_a_volume_that_is_made_needs_room_though_the_image_is_there(
    run: Callable[..., dict[str, Any]],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After `make down`: the images of the control plane are copied into it."""
    monkeypatch.setattr(Engine, "image_exists", lambda self, ref: True)
    monkeypatch.setattr(cluster_module, "machine", lambda engine, build: {**FIT, "disk": 0})
    assert "1 GiB of free space" in run()["msg"]


@pytest.mark.parametrize("podman", ["echo 'unable to connect to Podman socket' >&2; exit 125", "exit 1"])
def test_a_podman_that_does_not_answer_gives_way_to_docker(commands: Write, podman: str) -> None:  # noqa: F811
    commands(podman=podman, docker=DOCKER)
    assert Engine.find("auto", only=("podman", "docker")).name == "docker"


def test_down_removes_nothing_of_another_machine(
    commands: Write,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """DOCKER_HOST leads to a colleague's, and the cluster of this machine is podman's, or nobody's."""
    given = {"name": "c", "subnet": "10.89.240.0/24", "kubeconfig": str(tmp_path / "k"), "api_port": 6443, "workers": 0}
    given |= {"state": "absent", "files": None, "versions": {}, "wait_timeout": 1, "registry_mirrors": []}
    monkeypatch.setattr(node_module, "CGROUPS", tmp_path)
    monkeypatch.setattr(cluster_module, "PROC_SYS", tmp_path / "sys")
    told = f'{NOTHING}; case "$1" in info) echo /tmp;; esac'
    commands(docker=REMOTE.format(label=LABEL), podman=told)
    assert cluster_module.bring({**given, "engine": "auto"}, False).actions == []
    commands(docker=REMOTE.format(label=LABEL))
    for engine in ("auto", "docker"):
        monkeypatch.setattr(Engine, "_named", classmethod(_docker_alone))
        with pytest.raises(NoEngineError, match=r"ssh://me@shared\.test, not on this machine"):
            cluster_module.bring({**given, "engine": engine}, False)
    assert not re.search(r"^(rm|volume rm|network rm|container rm) ", (tmp_path / "called").read_text(), re.MULTILINE)


def _docker_alone(_: type[Engine], name: str, cache: Path) -> Engine:
    if name != "docker":
        raise NoEngineError([f"{name} is not installed"])
    return Engine(name, name, dict(os.environ))


def test_clusters_of_another_machine_share_no_kernel_with_this_one(commands: Write) -> None:  # noqa: F811
    """The kernel's settings stayed for a volume of there, and a new one took its values over."""
    commands(
        docker=REMOTE.format(label=LABEL),
        podman='case "$1 $2" in "volume ls") ;; info*) echo /tmp;; version*) ;; *) exit 1;; esac',
    )
    assert LocalCluster.__new__(LocalCluster)._volumes() == []


def test_a_node_of_another_machine_takes_nothing_of_this_one(commands: Write) -> None:  # noqa: F811
    commands(docker=REMOTE.format(label=LABEL), podman=NOTHING)
    assert Engine.find("auto", only=("podman", "docker"), having=(("container", "c-node"),), here=True).name == "podman"
    with pytest.raises(NoEngineError, match="not on this machine"):
        Engine.find("docker", having=(("container", "c-node"),), here=True)


def test_a_node_of_a_remote_podman_takes_nothing_of_this_one(commands: Write) -> None:  # noqa: F811
    there = 'echo \'[{"Id": "1"}]\''
    remote = (
        f"""case "$*" in *"{{{{if .Server}}}}"*) echo remote;; "container inspect c-node") {there};; *inspect*) exit 1;; esac"""
    )
    commands(docker=DOCKER, podman=remote)
    assert Engine.find("auto", only=("podman", "docker"), having=(("container", "c-node"),), here=True).name == "docker"
    with pytest.raises(NoEngineError, match="podman asks another machine"):
        Engine.find("podman", having=(("container", "c-node"),), here=True)


DROP = {"family": "inet", "table": "filter", "name": "forward", "type": "filter", "hook": "forward", "policy": "drop"}
STATE = [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}}, {"accept": None}]
NAME = [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}}, {"accept": None}]


@pytest.mark.parametrize(
    ("chain", "rules", "warned"),
    [
        (DROP, [], True),
        (DROP, [STATE], True),
        (DROP, [STATE, NAME], False),
        (DROP, [[{"jump": {"target": "DOCKER-USER"}}]], False),
        ({**DROP, "policy": "accept"}, [], False),
        ({**DROP, "hook": "input"}, [], False),
        ({**DROP, "family": "ip6", "name": "FORWARD"}, [], False),  # as docker sets it
        ({**DROP, "family": "ip", "name": "FORWARD"}, [], False),  # iptables', which is looked at by its own command
    ],
)
def test_a_chain_of_nftables_alone_that_drops_is_warned_of(
    podman: Engine,  # noqa: F811
    commands: Write,  # noqa: F811
    chain: dict[str, str],
    rules: list[Any],
    warned: bool,
) -> None:
    """Arch's own nftables.conf has one; iptables shows nothing of it."""
    told = {"nftables": [{"metainfo": {}}, {"chain": chain}, *({"rule": {"expr": each}} for each in rules)]}
    commands(netavark=f"echo {shlex.quote(NEW)}", iptables="echo -P FORWARD ACCEPT", nft=f"echo {shlex.quote(json.dumps(told))}")
    assert ("inet filter forward" in host_module.dropped(podman, "10.89.240.0/24")) is warned


@pytest.mark.parametrize("nft", ["exit 1", "echo none"])
def test_an_nft_that_tells_nothing_warns_of_nothing(podman: Engine, commands: Write, nft: str) -> None:  # noqa: F811
    commands(netavark=f"echo {shlex.quote(NEW)}", iptables="echo -P FORWARD ACCEPT", nft=nft)
    assert host_module.dropped(podman, "10.89.240.0/24") == ""


@pytest.mark.parametrize("system", [{"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}, {"ID": "alpine"}])
def test_a_foreign_manager_is_not_the_distributions(
    commands: Write,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    system: dict[str, str],
) -> None:
    """mmdebstrap calls apt-get, so openSUSE has it where that is installed."""
    monkeypatch.setattr(host_module.platform, "freedesktop_os_release", lambda: system)
    commands(**{"apt-get": "", "zypper": ""})
    assert host_module.manager() is None


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o022])
def test_an_image_can_be_read_by_its_user_whatever_root_s_umask_is(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "context").mkdir()
        tree = {".flaskops/gunicorn.conf.py": TreeEntry.text(b""), "shop/api/app.py": TreeEntry.text(b"")}
        write_tree(tree, str(tmp_path / "context"))
    finally:
        os.umask(before)
    made = [tmp_path / "context", *(path for path in (tmp_path / "context").rglob("*") if path.is_dir())]
    assert [oct(path.stat().st_mode & 0o777) for path in made] == ["0o755"] * 4


def make(*args: str, clone: Path = ROOT, without: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess[str]:
    left_out = {"PYTHONPATH", "XDG_CACHE_HOME", "MAKEFLAGS", "CACHE", *without}
    given = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.run(["make", "-C", str(clone), *args], env={**given, **env}, capture_output=True, text=True)


def test_a_home_with_a_space_is_refused(tmp_path: Path) -> None:
    """make would take it for two names, and make an environment over the folder above the home."""
    done = make("-n", "up", "PACKAGES=no", HOME=str(tmp_path / "anna maria"))
    assert done.returncode and "CACHE=" in done.stderr and "venv" not in done.stdout
    assert make("-n", "up", "PACKAGES=no", "CACHE=/x", HOME=str(tmp_path / "anna maria")).returncode == 0


def test_without_home_it_is_the_users() -> None:
    """As in a service of systemd, and by `env -i`."""
    done = make("-n", "up", "PACKAGES=no", without=("HOME",))
    assert done.returncode == 0 and f"{os.path.expanduser('~')}/.cache/flaskops" in done.stdout
    assert " /.cache" not in done.stdout


def test_a_machine_without_bash_is_told_so(tmp_path: Path) -> None:
    """Alpine has none, and NixOS none in /bin."""
    for name in ("python3", "uname"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [str(shutil.which("make")), "-C", str(ROOT), "help"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode and "needs bash" in done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"ANSIBLE_CONFIG": "/nowhere.cfg"},
        {"ANSIBLE_COLLECTIONS_PATH": "/nowhere"},
        {"LC_ALL": "C"},
        {"LANG": "de_DE.UTF-8", "LC_ALL": "xx_YY.UTF-8"},
    ],
)
def test_make_down_is_the_same_in_every_environment(env: dict[str, str]) -> None:
    """Exported for an Ansible of somebody's own, or sent by ssh for a language that is not installed here."""
    done = make("down", "ARGS=--syntax-check", "PACKAGES=no", **env)
    assert done.returncode == 0, done.stderr[-600:]


def test_make_down_in_a_folder_that_all_may_write(tmp_path: Path) -> None:
    """A shared folder of Vagrant, WSL's /mnt/c: Ansible looks for no ansible.cfg there."""
    for name in ("Makefile", "ansible.cfg", "collections", "inventories", "playbooks", "requirements.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    tmp_path.chmod(0o777)
    done = make("down", "ARGS=--syntax-check", "PACKAGES=no", clone=tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-900:]


def test_pip_does_not_install_for_the_user() -> None:
    """PIP_USER is set in the workspaces of some clouds, and in some people's pip.conf; a virtual environment refuses it."""
    done = make("--eval", "show: ; @echo $$PIP_USER $$LC_ALL", "show", PIP_USER="1")
    assert "0 C.UTF-8" in done.stdout.splitlines(), done.stdout


def test_a_kubeconfig_is_in_the_users_home_without_home() -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("HOME", "PYTHONPATH")}
    words = ["ansible", "-i", "inventories/local", "flaskops", "-m", "debug", "-a", "msg={{ cluster_kubeconfig }}"]
    done = subprocess.run(words, cwd=ROOT, env=env | {"ANSIBLE_LOCAL_TEMP": "/tmp"}, capture_output=True, text=True)
    assert f"msg: {os.path.expanduser('~')}/.local/share" in done.stdout, done.stdout


def test_certificates_outlive_a_cluster_that_is_stopped_for_a_year() -> None:
    """Nobody renews them, and kubeadm's end after a year."""
    texts = (ROOT / "roles/local_cluster/files/kubeadm.yaml").read_text()
    (found,) = [each for each in yaml.safe_load_all(texts) if each["kind"] == "ClusterConfiguration"]
    assert int(found["certificateValidityPeriod"].removesuffix("h")) >= 5 * 365 * 24
