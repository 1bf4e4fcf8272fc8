# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks for external checks against the fakes on the loopback address, with a Kubernetes API where one is read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import urllib3
import yaml
from kubernetes import client, config

from tests.harness import clean_environment, installed_collection

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.fakes import FAKES

CANARY = {provider: f"canary-{provider}-9c41e7" for provider in FAKES}
SECRETS = [*CANARY.values(), "canary-header-77aa", "canary-password-31bb", "canary-body-52cc"]
CHECKS = [
    {
        "name": "shop",
        "url": "https://shop.example.com/health",
        "interval": 300,
        "keyword": "ok",
        "secret_request_headers": {"X-Key": SECRETS[-3]},
        "http_username": "watcher",
        "http_password": SECRETS[-2],
        "request_body": json.dumps({"key": SECRETS[-1]}),
        "tags": ["web"],
        "uptimerobot": {"method": "POST"},
    },
    {"name": "api", "url": "https://api.example.com/health"},
]


class Playbooks:
    """The fakes, and ansible-playbook on them."""

    def __init__(self, folder: Path, fakes: dict[str, t.Any]) -> None:
        self.folder, self.fakes, self.collections = folder, fakes, ROOT / "collections"

    def accounts(self, **tokens: str) -> list[dict[str, str]]:
        return [
            {"provider": name, "api_token": tokens.get(name, CANARY[name]), "api_url": fake.url}
            for name, fake in self.fakes.items()
        ]

    def run(self, tasks: list[dict[str, t.Any]], *arguments: str, **extra: t.Any) -> tuple[int, str]:
        """Run tasks on this machine at -vvv; return the exit code and all output, in which no secret may be."""
        play = {"name": "Test", "hosts": "localhost", "gather_facts": False, **extra.pop("play", {}), "tasks": tasks}
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        return self.ansible(self.folder / "play.yml", ["-i", "localhost,", "-c", "local", *arguments], **extra)

    def ansible(self, playbook: Path, arguments: list[str], **extra: t.Any) -> tuple[int, str]:
        (self.folder / "vars.json").write_text(
            json.dumps({"ansible_python_interpreter": "{{ ansible_playbook_python }}", **extra})
        )
        env = clean_environment() | {
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vvv", "--diff", str(playbook)]
        command += ["-e", f"@{self.folder / 'vars.json'}", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=300)
        output = done.stdout + done.stderr
        assert [secret for secret in SECRETS if secret in output] == []
        return done.returncode, output

    def role(self, *arguments: str, **options: t.Any) -> tuple[int, str]:
        variables = {
            "external_checks_providers": self.accounts(),
            "external_checks_environment": "Test_1",
            "external_checks_checks": CHECKS,
            **options,
        }
        task = {"name": "Run the role", "ansible.builtin.include_role": {"name": "flaskops.observability.external_checks"}}
        return self.run([task], *arguments, **variables)

    def writes(self) -> list[str]:
        """What was written since the last call."""
        found = [str(request) for fake in self.fakes.values() for request in fake.writes]
        for fake in self.fakes.values():
            fake.clear()
        return found


@pytest.fixture
def playbooks(tmp_path: Path) -> t.Iterator[Playbooks]:
    with contextlib.ExitStack() as stack:
        yield Playbooks(tmp_path, {name: stack.enter_context(fake(token=CANARY[name])) for name, fake in FAKES.items()})


def changed(output: str) -> int:
    """Changed tasks of all hosts."""
    found = re.findall(r"changed=(\d+)", output)
    assert found, output
    return sum(map(int, found))


def error(output: str) -> str:
    found = re.search(r"\[ERROR\]: (.*?)\n(?:Origin:|\n)", output, re.DOTALL)
    assert found, output
    return " ".join(found[1].split())


def test_a_list_at_three_providers(playbooks: Playbooks) -> None:
    code, output = playbooks.role("--check")
    assert code == 0 and changed(output) == 1, output
    assert playbooks.writes() == []
    code, output = playbooks.role()
    assert code == 0 and changed(output) == 1, output
    assert len(playbooks.writes()) == 6
    assert [fake.names() for fake in playbooks.fakes.values()] == [["api", "shop"]] * 3
    code, output = playbooks.role()
    assert code == 0 and changed(output) == 0 and playbooks.writes() == [], output
    shorter = CHECKS[1:]
    code, output = playbooks.role(external_checks_checks=shorter)
    assert code == 0 and changed(output) == 0 and playbooks.writes() == []
    code, output = playbooks.role(external_checks_checks=shorter, external_checks_prune=True)
    assert code == 0 and changed(output) == 1 and len(playbooks.writes()) == 3
    code, output = playbooks.role(external_checks_checks=shorter, external_checks_maintenance="begin")
    assert code == 0 and changed(output) == 1 and len(playbooks.writes()) == 3
    code, output = playbooks.role(external_checks_checks=shorter, external_checks_maintenance="end")
    assert code == 0 and changed(output) == 1 and len(playbooks.writes()) == 3
    code, output = playbooks.role(external_checks_checks=shorter, external_checks_state="absent")
    assert code == 0 and changed(output) == 1 and len(playbooks.writes()) == 3
    code, output = playbooks.role(external_checks_checks=shorter, external_checks_state="absent")
    assert code == 0 and changed(output) == 0 and playbooks.writes() == []
    assert [fake.names() for fake in playbooks.fakes.values()] == [[]] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"external_checks_environment": ""}, "external_checks_environment is empty: set it"),
        ({"external_checks_checks": [{"name": "shop"}]}, "has no url and no cluster was named"),
        ({"external_checks_checks": [{"url": "https://a.test/"}]}, "has no name"),
        ({"external_checks_checks": [{"name": "a", "url": "https://a.example.com/", "interval": 600}]}, "no interval of 600 s"),
        ({"external_checks_checks": [{"name": "a", "url": "http://10.1.2.3/"}]}, "can't be reached from the internet"),
        ({"external_checks_checks": [{"name": "a", "url": "https://a.example.com/", "intervall": 60}]}, "Unsupported parameters"),
        ({"external_checks_providers": [{"provider": "nagios"}]}, "must be one of: uptimerobot, pingdom, statuscake"),
        ({"external_checks_state": "gone"}, "external_checks_state must be one of: present, absent"),
        ({"external_checks_downgrade": ["keyword"]}, "external_checks_downgrade"),
    ],
)
def test_refusals(playbooks: Playbooks, options: dict[str, t.Any], message: str) -> None:
    code, output = playbooks.role(**options)
    assert code != 0 and message in error(output), output
    assert "Traceback" not in output
    assert [write for write in playbooks.writes() if "/monitors" not in write] == []


def test_failures_show_no_token(playbooks: Playbooks) -> None:
    wrong = playbooks.accounts(uptimerobot="canary-header-77aa")
    code, output = playbooks.role(external_checks_providers=wrong)
    assert code != 0 and "answered 401" in error(output)
    playbooks.fakes["pingdom"].fail(
        "POST *", status=400, body={"error": {"errormessage": f"no {CANARY['pingdom']} here"}}, times=None
    )
    code, output = playbooks.role(external_checks_checks=[{"name": "new", "url": "https://new.example.com/"}])
    assert code != 0 and "answered 400" in error(output) and "no *** here" in error(output)


def test_failures_of_single_modules_show_no_secret(playbooks: Playbooks) -> None:
    """A refused token, an answer that repeats all that was sent, no answer, and an option that is wrong, each at -vvv."""
    modules = {"uptimerobot": "uptimerobot_monitor", "pingdom": "pingdom_check", "statuscake": "statuscake_uptime_check"}
    tasks: list[dict[str, t.Any]] = []
    for provider, fake in playbooks.fakes.items():
        known = [CANARY[provider], *SECRETS[-3:-1], json.dumps({"key": SECRETS[-1]}, separators=(",", ":"))]
        echo = {
            "uptimerobot": {"message": known, "details": [{"key": SECRETS[-1]}]},
            "pingdom": {"error": {"errormessage": " ".join(known)}},
            "statuscake": {"message": "no", "errors": {"all": known}},
        }[provider]
        fake.fail("POST *", status=422, body=echo, times=1)
        fake.fail("POST *", kind="reset", times=None)
        check = {
            "name": "shop",
            "url": "https://shop.example.com/health",
            "api_token": CANARY[provider],
            "api_url": fake.url,
            "api_retries": 0,
            "secret_request_headers": {"X-Key": SECRETS[-3]},
            "http_username": "watcher",
            "http_password": SECRETS[-2],
            "request_body": json.dumps({"key": SECRETS[-1]}),
        }
        dead = {"api_url": "http://127.0.0.1:1"}
        for more in ({"api_token": SECRETS[-3]}, {}, dead, {"interval": 7}, {"api_timeout": "soon"}, {"nonsense": 1}):
            task = {f"flaskops.observability.{modules[provider]}": {**check, **more}}
            tasks.append({"name": "Fail", **task, "ignore_errors": True})
    code, output = playbooks.run(tasks)
    assert code == 0 and output.count("...ignoring") == len(tasks) == 18 and "Traceback" not in output, output
    assert output.count("answered 401") >= 3 and output.count("answered 422") >= 3, output
    assert [fake.names() for fake in playbooks.fakes.values()] == [[]] * 3


def test_nothing_is_done_without_a_provider(playbooks: Playbooks) -> None:
    code, output = playbooks.role(external_checks_providers=[], external_checks_checks=[{"name": "shop"}])
    assert code == 0 and "external_checks_providers names no provider" in output


def test_modules_of_the_installed_collection(playbooks: Playbooks, tmp_path: Path) -> None:
    """The built archive, installed elsewhere, used without a role; module_defaults by group where the collection has them."""
    playbooks.collections = installed_collection(tmp_path)
    modules = {"uptimerobot": "uptimerobot_monitor", "pingdom": "pingdom_check", "statuscake": "statuscake_uptime_check"}
    access = {name: {"api_token": CANARY[name], "api_url": fake.url} for name, fake in playbooks.fakes.items()}
    tasks: list[dict[str, t.Any]] = []
    for provider, module in modules.items():
        playbooks.fakes[provider].add_contact("On call")
        contact = [{"contact": "On call"}] if provider == "uptimerobot" else ["On call"]
        check = {"name": "shop", "url": "https://shop.example.com/health", "contacts": contact}
        whole = {"provider": provider, "environment": "default", **access[provider]}
        tasks += [
            {"name": "Make", f"flaskops.observability.{module}": check},
            {"name": "Make again", f"flaskops.observability.{module}": check},
            {"name": "Look", f"flaskops.observability.{module}_info": {"environment": "default"}, "register": "seen"},
            {"name": "Judge", "ansible.builtin.assert": {"that": "seen.checks | map(attribute='name') | list == ['shop']"}},
            {"name": "Look up", f"flaskops.observability.{provider}_contact_info": {"name": "On call"}, "register": "who"},
            {"name": "Judge", "ansible.builtin.assert": {"that": "who.contacts | length == 1"}},
            {"name": "List", "flaskops.observability.external_checks": {**whole, "checks": CHECKS[1:]}},
            {"name": "List again", "flaskops.observability.external_checks": {**whole, "checks": CHECKS[1:]}},
        ]
    # Where the modules of one provider find its API is said once.
    groups = {f"group/flaskops.observability.{name}": options for name, options in access.items()}
    code, output = playbooks.run(tasks, play={"module_defaults": groups})
    assert code == 0 and changed(output) == 6, output
    assert [fake.names() for fake in playbooks.fakes.values()] == [["api", "shop"]] * 3
    assert len(playbooks.writes()) == 6


def test_the_stage_of_the_playbooks(playbooks: Playbooks, tmp_path: Path) -> None:
    """Two clusters of one environment, each of which prunes what is not in its own list."""
    apps = [
        {
            "name": "shop",
            "external_checks": [{"url": "https://shop.example.com/"}, {"name": "api", "url": "https://api.example.com/"}],
        },
        {"name": "inner", "external_checks": []},
    ]
    common = {"ansible_connection": "local", "environment_name": "production", "flask_apps": apps, "external_checks_prune": True}
    hosts = {"all": {"hosts": {"east": {}, "west_2": {}}, "vars": {**common, "external_checks_providers": playbooks.accounts()}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    stage, arguments = ROOT / "playbooks/external_checks.yml", ["-i", str(tmp_path / "hosts.yml")]
    code, output = playbooks.ansible(stage, arguments)
    assert code == 0 and changed(output) == 2, output
    for fake in playbooks.fakes.values():
        assert fake.names() == ["api", "api", "shop production east", "shop production west_2"]
    playbooks.writes()
    code, output = playbooks.ansible(stage, arguments)
    assert code == 0 and changed(output) == 0 and playbooks.writes() == [], output


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Path]:
    """A Kubernetes API without nodes: Services and Ingresses are what the role reads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops/bin"
    found = {name: sorted(cache.glob(f"*/{name}")) for name in ("etcd", "kube-apiserver")}
    if not all(found.values()):
        pytest.skip("the cache has no etcd and kube-apiserver: make up builds them")
    folder = tmp_path_factory.mktemp("api")
    client_port, peer_port, port = (free_port() for _number in range(3))
    (folder / "tokens.csv").write_text("test-token,admin,admin,system:masters\n")
    subprocess.run(["openssl", "genrsa", "-out", folder / "key.pem", "2048"], check=True, capture_output=True, timeout=60)
    commands = [
        [
            *(found["etcd"][-1], f"--data-dir={folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{client_port}"),
            *(f"--advertise-client-urls=http://127.0.0.1:{client_port}", f"--listen-peer-urls=http://127.0.0.1:{peer_port}"),
        ],
        [
            *(found["kube-apiserver"][-1], f"--etcd-servers=http://127.0.0.1:{client_port}", f"--secure-port={port}"),
            *(f"--cert-dir={folder}/certs", "--bind-address=127.0.0.1", f"--token-auth-file={folder}/tokens.csv"),
            *(f"--service-account-key-file={folder}/key.pem", f"--service-account-signing-key-file={folder}/key.pem"),
            *("--service-account-issuer=https://test", "--service-cluster-ip-range=10.96.0.0/24"),
            "--authorization-mode=RBAC",
        ],
    ]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": "test-token"}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(config))
    processes = []
    try:
        with (folder / "log").open("w") as log:
            processes = [subprocess.Popen([str(word) for word in command], stdout=log, stderr=log) for command in commands]
        core = kubernetes_client(folder / "config")
        deadline = time.monotonic() + 180
        while not ready(core):
            assert time.monotonic() < deadline and all(process.poll() is None for process in processes), (
                folder / "log"
            ).read_text()[-2000:]
            time.sleep(0.5)
        yield folder / "config"
    finally:
        # The API server first and to its end: without etcd it would wait for minutes.
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def kubernetes_client(path: Path) -> client.CoreV1Api:
    urllib3.disable_warnings()
    return client.CoreV1Api(config.new_client_from_config(str(path)))


def ready(core: client.CoreV1Api) -> bool:
    try:
        core.read_namespace("default", _request_timeout=5)
    except (client.ApiException, urllib3.exceptions.HTTPError):
        return False
    return True


def service(name: str, kind: str, port: int = 80) -> dict[str, t.Any]:
    return {
        "metadata": {"name": name},
        "spec": {"type": kind, "selector": {"app": name}, "ports": [{"name": "http", "port": port}, {"name": "more", "port": 9}]},
    }


def test_addresses_are_read_from_the_cluster(playbooks: Playbooks, kubeconfig: Path) -> None:
    core = kubernetes_client(kubeconfig)
    networking = client.NetworkingV1Api(core.api_client)
    for name, kind, port in (
        ("plain", "LoadBalancer", 80),
        ("odd", "LoadBalancer", 8080),
        ("inside", "ClusterIP", 80),
        ("late", "LoadBalancer", 80),
    ):
        core.create_namespaced_service("default", service(name, kind, port))
    for name, entry in (("plain", {"ip": "203.0.113.7"}), ("odd", {"hostname": "lb.example.com"})):
        core.patch_namespaced_service_status(name, "default", {"status": {"loadBalancer": {"ingress": [entry]}}})
    backend = {"service": {"name": "inside", "port": {"number": 80}}}
    rules = [
        {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
        for host in ("plain.example.com", "*.example.com", "safe.example.com")
    ]
    networking.create_namespaced_ingress(
        "default", {"metadata": {"name": "web"}, "spec": {"rules": rules, "tls": [{"hosts": ["safe.example.com"]}]}}
    )
    cluster = {"external_checks_kubeconfig": str(kubeconfig), "external_checks_context": "test"}
    # 203.0.113.0/24 is for documentation, and so not public either.
    checks = [
        {"name": "a", "app": "plain"},
        {"name": "odd", "path": "/x"},
        {"name": "inside"},
        {"name": "given", "url": "https://given.example.com/"},
    ]
    code, output = playbooks.role(external_checks_checks=checks, external_checks_allow_private_urls=True, **cluster)
    assert code == 0, output
    assert {check["name"]: check["website_url"] for check in playbooks.fakes["statuscake"].checks.values()} == {
        "a": "http://203.0.113.7/health",
        "odd": "http://lb.example.com:8080/x",
        "inside": "https://safe.example.com/health",
        "given": "https://given.example.com/",
    }
    playbooks.writes()
    for check, words in (
        ({"name": "late"}, "Service late in namespace default has no load balancer address yet"),
        ({"name": "none"}, "Service none in namespace default does not exist"),
        ({"name": "kubernetes"}, "Service kubernetes in namespace default is of type ClusterIP and no Ingress"),
    ):
        code, output = playbooks.role(external_checks_checks=[check], external_checks_wait_timeout=5, **cluster)
        assert code != 0 and words in error(output), output
    dead = {**cluster, "external_checks_kubeconfig": str(kubeconfig) + ".gone"}
    code, output = playbooks.role(external_checks_checks=[{"name": "plain"}], **dead)
    assert code != 0 and "can't be read with kubeconfig" in error(output), output
    assert playbooks.writes() == []
