# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks for external checks against the fakes on the loopback address, with a Kubernetes API where one is read."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api_rig import CONTEXT, Rig
from tests.fakes import FAKES
from tests.harness import ROOT, Run, installed_collection, inventory_of, playbook

CANARY = {provider: f"canary-{provider}-9c41e7" for provider in FAKES}
SECRETS = [*CANARY.values(), "canary-header-77aa", "canary-password-31bb", "canary-body-52cc"]
TITLES = {"uptimerobot": "UptimeRobot", "pingdom": "Pingdom", "statuscake": "StatusCake"}
MODULES = {"uptimerobot": "uptimerobot_monitor", "pingdom": "pingdom_check", "statuscake": "statuscake_uptime_check"}
OTHER: dict[str, dict[str, Any]] = {
    "uptimerobot": {"type": "PING"},
    "pingdom": {"type": "tcp"},
    "statuscake": {"test_type": "TCP"},
}
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
    },
    {"name": "api", "url": "https://api.example.com/health"},
]


class Playbooks:
    """The fakes, and ansible-playbook on them."""

    def __init__(self, folder: Path, fakes: dict[str, Any]) -> None:
        self.folder, self.fakes, self.collections = folder, fakes, ROOT / "collections"

    def accounts(self, **tokens: str) -> list[dict[str, str]]:
        return [
            {"provider": name, "api_token": tokens.get(name, CANARY[name]), "api_url": fake.url}
            for name, fake in self.fakes.items()
        ]

    def run(self, *plays: dict[str, Any], hosts: dict[str, Any] | None = None, **variables: Any) -> Run:
        """Run plays at -vvv, on this machine where no hosts with variables of their own are given; no output has a secret."""
        (self.folder / "play.yml").write_text(yaml.safe_dump(list(plays)))
        arguments = ["-vvv", "--diff", str(self.folder / "play.yml")]
        inventory_file = inventory_of(self.folder, hosts or {"localhost": {}}, **variables)
        env = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        done = playbook(*arguments, inventory=inventory_file, cwd=self.folder, collections=self.collections, env=env, timeout=300)
        assert [secret for secret in SECRETS if secret in done.stdout + done.stderr] == []
        return done

    def role(self, *steps: dict[str, Any], hosts: dict[str, Any] | None = None, **options: Any) -> Run:
        """Run the role once, or once for each step with its own options; `apply` among them is for the role's tasks."""
        tasks = []
        for step in steps or ({},):
            role = {"name": "flaskops.observability.external_checks", "apply": step.pop("apply", {})}
            tasks.append({"name": "Run the role", "ansible.builtin.include_role": role, "vars": step})
        common = {
            "external_checks_providers": self.accounts(),
            "external_checks_environment_name": "Test_1",
            "external_checks_checks": CHECKS,
        }
        return self.run(play(tasks), hosts=hosts, **{**common, **options})

    def writes(self) -> list[str]:
        """What was written since the last call."""
        found = [str(request) for fake in self.fakes.values() for request in fake.writes]
        for fake in self.fakes.values():
            fake.clear()
        return found

    def names(self) -> list[list[str]]:
        return [fake.names() for fake in self.fakes.values()]


def play(tasks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"name": "Test", "hosts": "all", "gather_facts": False, **more, "tasks": tasks}


def said(done: Run, host: str) -> str:
    """What the tasks that failed on a host said, in one line."""
    found = re.findall(rf"^(?:fatal|failed): \[{host}\].*?(?=^\w|\Z)", done.stdout, re.MULTILINE | re.DOTALL)
    assert found, done.stdout[-3000:]
    return " ".join(" ".join(found).split())


@pytest.fixture
def playbooks(tmp_path: Path) -> Iterator[Playbooks]:
    with contextlib.ExitStack() as stack:
        yield Playbooks(tmp_path, {name: stack.enter_context(fake(token=CANARY[name])) for name, fake in FAKES.items()})


def test_a_list_at_three_providers(playbooks: Playbooks) -> None:
    """Told, made, again; at one of them less, pruned, quiet, loud, and lists that leave nothing; in the end all is deleted."""
    for provider, fake in playbooks.fakes.items():
        fake.seed(1, name="db port", tags=["flaskops-test-1"], **OTHER[provider])
    one: dict[str, Any] = {"external_checks_providers": playbooks.accounts()[-1:], "external_checks_checks": CHECKS[1:]}
    empty: dict[str, Any] = {**one, "external_checks_checks": []}
    gone = {"external_checks_state": "absent"}
    prune = {"external_checks_prune": True}
    done = playbooks.role(
        {"apply": {"check_mode": True}, **one},  # changed
        {},  # changed
        {},
        one,
        {**one, **prune},  # changed
        {**one, "external_checks_maintenance": "begin"},  # changed
        {**one, "external_checks_maintenance": "end"},  # changed
        {**empty, **prune, "apply": {"ignore_errors": True}},
        {**empty, **prune, **gone, "apply": {"ignore_errors": True}},
        {**empty, **gone},
        {**one, **gone},  # changed
        {"external_checks_checks": [], **prune, **gone, "external_checks_prune_all": True},  # changed
    )
    assert done.changed == 7
    assert done.stdout.count("...ignoring") == 2 and done.stdout.count("set prune_all to true as well") >= 2
    assert playbooks.names() == [["db port"]] * 3
    for provider, fake in playbooks.fakes.items():
        last = ["DELETE", "POST", "DELETE", "DELETE"] if provider == "statuscake" else ["DELETE", "DELETE"]
        assert [request.method for request in fake.writes] == ["POST", "POST", *last]
        assert f"Not pruned at {TITLES[provider]}" in done.stderr


def test_refusals(playbooks: Playbooks) -> None:
    """One host is one case."""

    def checks(*found: dict[str, Any]) -> dict[str, Any]:
        return {"external_checks_checks": list(found)}

    one = {"name": "a", "url": "https://a.example.com/"}
    cases = {
        "external_checks_environment_name is empty: set it": {"external_checks_environment_name": ""},
        "has no url and no cluster was named": checks({"name": "shop"}),
        "has no name": checks({"url": "https://a.test/"}),
        "no interval of 600 s": checks({**one, "interval": 600}),
        "can't be reached from the internet": checks({"name": "a", "url": "http://10.1.2.3/"}),
        "Unsupported parameters": checks({**one, "intervall": 60}),
        "must be one of: uptimerobot, pingdom, statuscake": {"external_checks_providers": [{"provider": "nagios"}]},
        "external_checks_state must be one of: present, absent": {"external_checks_state": "gone"},
        "external_checks_downgrade": {"external_checks_downgrade": ["keyword"]},
        "external_checks_checks": {"external_checks_checks": None, "external_checks_prune": True},
    }
    hosts = {f"case-{number}": options for number, options in enumerate(cases.values())}
    pingdom = [account for account in playbooks.accounts() if account["provider"] == "pingdom"]
    done = playbooks.role(hosts=hosts, external_checks_providers=pingdom)
    assert done.returncode != 0 and "Traceback" not in done.stdout + done.stderr
    for number, words in enumerate(cases):
        assert words in said(done, f"case-{number}")
    assert playbooks.writes() == []


def test_failures_show_no_token(playbooks: Playbooks) -> None:
    playbooks.fakes["pingdom"].fail(
        "POST *", status=400, body={"error": {"errormessage": f"no {CANARY['pingdom']} here"}}, times=None
    )
    hosts = {
        "refused": {"external_checks_providers": playbooks.accounts(uptimerobot=SECRETS[-3])[:1]},
        "quoted": {"external_checks_checks": [{"name": "new", "url": "https://new.example.com/"}]},
        "nothing": {"external_checks_providers": [], "external_checks_checks": [{"name": "shop"}]},
    }
    done = playbooks.role(hosts=hosts)
    assert done.returncode != 0 and "answered 401" in said(done, "refused")
    assert "answered 400" in said(done, "quoted") and "no *** here" in said(done, "quoted")
    assert "external_checks_providers names no provider" in done.stdout and "[nothing]: FAILED" not in done.stdout


def test_failures_of_single_modules_show_no_secret(playbooks: Playbooks) -> None:
    """A refused token, an answer that repeats all that was sent, no answer, and an option that is wrong, each at -vvv."""
    hosts: dict[str, Any] = {}
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
        hosts[provider] = {"check": check}
    dead = {"api_url": "http://127.0.0.1:1"}
    variants = ({"api_token": SECRETS[-3]}, {}, dead, {"interval": 7}, {"api_timeout": "soon"}, {"nonsense": 1})
    # A host for each provider, which do not wait for one another.
    tasks = [
        {
            "name": "Fail",
            f"flaskops.observability.{module}": {**hosts[provider]["check"], **more},
            "ignore_errors": True,
            "when": f"inventory_hostname == '{provider}'",
        }
        for more in variants
        for provider, module in MODULES.items()
    ]
    done = playbooks.run(play(tasks, strategy="ansible.builtin.free"), hosts={provider: {} for provider in hosts})
    assert done.returncode == 0 and done.stdout.count("...ignoring") == len(tasks) == 18, done.stdout
    assert done.stdout.count("answered 401") >= 3 and done.stdout.count("answered 422") >= 3, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert playbooks.names() == [[]] * 3


def test_modules_of_the_installed_collection(playbooks: Playbooks, tmp_path: Path) -> None:
    """The built archive, installed elsewhere, used without a role; module_defaults by group where the collection has them."""
    playbooks.collections = installed_collection(tmp_path)
    access = {name: {"api_token": CANARY[name], "api_url": fake.url} for name, fake in playbooks.fakes.items()}
    plays = []
    for provider, module in MODULES.items():
        playbooks.fakes[provider].add_contact("On call")
        contact = [{"contact": "On call"}] if provider == "uptimerobot" else ["On call"]
        check = {"name": "shop", "url": "https://shop.example.com/health", "contacts": contact}
        whole = {"provider": provider, "environment": "default", **access[provider]}
        tasks: list[dict[str, Any]] = [
            {"name": "Make", f"flaskops.observability.{module}": check},
            {"name": "Look", f"flaskops.observability.{module}_info": {"environment": "default"}, "register": "seen"},
            {"name": "Judge", "ansible.builtin.assert": {"that": "seen.checks | map(attribute='name') | list == ['shop']"}},
            {"name": "Look up", f"flaskops.observability.{provider}_contact_info": {"name": "On call"}, "register": "who"},
            {"name": "Judge", "ansible.builtin.assert": {"that": "who.contacts | length == 1"}},
            {"name": "List", "flaskops.observability.external_checks": {**whole, "checks": CHECKS[1:]}},
        ]
        # Where the modules of one provider find its API is said once.
        groups = {f"group/flaskops.observability.{provider}": access[provider]}
        plays.append(play(tasks, module_defaults=groups))
    assert playbooks.run(*plays).changed == 6
    assert playbooks.names() == [["api", "shop"]] * 3
    assert len(playbooks.writes()) == 6


def test_the_stage_and_the_teardown_of_the_playbooks(playbooks: Playbooks) -> None:
    """Two clusters of one environment, each of which prunes what is not in its own list; one provider stands for all."""
    fake = playbooks.fakes["pingdom"]
    apps = [
        {
            "name": "shop",
            "external_checks": [{"url": "https://shop.example.com/"}, {"name": "api", "url": "https://api.example.com/"}],
        },
        {"name": "inner", "external_checks": []},
    ]
    fake.seed(1, name="db port", tags=["flaskops-production-east"], **OTHER["pingdom"])
    common = {
        "environment_name": "production",
        "flask_apps": apps,
        "external_checks_prune": True,
        "external_checks_providers": [{"provider": "pingdom", "api_token": CANARY["pingdom"], "api_url": fake.url}],
        # Nothing of the teardown but the checks.
        **{"cluster_provider": "existing", "logging_provider": "none", "monitoring_provider": "none"},
    }
    hosts: dict[str, Any] = {"east": {}, "west_2": {}}
    stage, teardown = (
        {"name": "Import", "import_playbook": str(ROOT / f"playbooks/{name}.yml")} for name in ("external_checks", "teardown")
    )
    made = ["api", "api", "db port", "shop production east", "shop production west_2"]
    assert playbooks.run(stage, stage, hosts=hosts, **common).changed == 2
    assert fake.names() == made and len(playbooks.writes()) == 4
    # A typo in the name of the applications' list, or a lookup that found none.
    lost = playbooks.run(stage, hosts=hosts, **{**common, "flask_apps": []})
    assert lost.returncode != 0 and all("set prune_all" in said(lost, host) for host in hosts)
    assert fake.names() == made and playbooks.writes() == []
    assert playbooks.run(teardown, hosts=hosts, **{**common, "flask_apps": []}).changed == 2
    assert fake.names() == ["db port"]


def test_addresses_are_read_from_the_cluster(playbooks: Playbooks, rig: Rig) -> None:
    space = "outside-checks"
    rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": space}})
    services = f"/api/v1/namespaces/{space}/services"
    for name, kind, port in (
        ("plain", "LoadBalancer", 80),
        ("odd", "LoadBalancer", 8080),
        ("inside", "ClusterIP", 80),
        ("hidden", "ClusterIP", 80),
        ("late", "LoadBalancer", 80),
    ):
        ports = [{"name": "http", "port": port}, {"name": "more", "port": 9}]
        body = {"metadata": {"name": name}, "spec": {"type": kind, "selector": {"app": name}, "ports": ports}}
        rig.request("POST", services, body)
    for name, entry in (("plain", {"ip": "203.0.113.7"}), ("odd", {"hostname": "lb.example.com"})):
        status = {"status": {"loadBalancer": {"ingress": [entry]}}}
        rig.request("PATCH", f"{services}/{name}/status", status, "application/merge-patch+json")
    backend = {"service": {"name": "inside", "port": {"number": 80}}}
    rules = [
        {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
        for host in ("plain.example.com", "*.example.com", "safe.example.com")
    ]
    ingress = {"metadata": {"name": "web"}, "spec": {"rules": rules, "tls": [{"hosts": ["safe.example.com"]}]}}
    rig.request("POST", f"/apis/networking.k8s.io/v1/namespaces/{space}/ingresses", ingress)
    # 203.0.113.0/24 is for documentation, and so not public either.
    checks = [
        {"name": "a", "app": "plain"},
        {"name": "odd", "path": "/x"},
        {"name": "inside"},
        {"name": "given", "url": "https://given.example.com/"},
    ]
    cases: dict[str, dict[str, Any]] = {
        f"Service late in namespace {space} has no load balancer address yet": {"checks": [{"name": "late"}]},
        f"Service none in namespace {space} does not exist": {"checks": [{"name": "none"}]},
        f"Service hidden in namespace {space} is of type ClusterIP and no Ingress": {"checks": [{"name": "hidden"}]},
        "gone does not exist": {"checks": [{"name": "plain"}], "kubeconfig": f"{rig.folder}/gone"},
    }
    hosts = {f"case-{number}": options for number, options in enumerate([{"checks": checks}, *cases.values()])}
    hosts = {host: {f"external_checks_{name}": value for name, value in options.items()} for host, options in hosts.items()}
    done = playbooks.role(
        hosts=hosts,
        external_checks_providers=playbooks.accounts()[-1:],
        external_checks_kubeconfig=str(rig.kubeconfig()),
        external_checks_context=CONTEXT,
        external_checks_namespace=space,
        external_checks_allow_private_urls=True,
        external_checks_wait_timeout=5,
    )
    assert "[case-0]: FAILED" not in done.stdout, done.stdout
    for number, words in enumerate(cases, 1):
        assert words in said(done, f"case-{number}")
    assert {check["name"]: check["website_url"] for check in playbooks.fakes["statuscake"].checks.values()} == {
        "a": "http://203.0.113.7/health",
        "odd": "http://lb.example.com:8080/x",
        "inside": "https://safe.example.com/health",
        "given": "https://given.example.com/",
    }
    assert len(playbooks.writes()) == 4
