# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead man's switch of the stack: from one token to Alertmanager's configuration in one run, and away again."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.test_roles import CORE, OPERATOR, WATCHED, changes, lives, write_charts
from tests.api_rig import CONTEXT, Rig, running
from tests.fakes import UptimeRobotFake
from tests.harness import LONG, Run, inventory_of, playbook
from tests.toolchain import programs

pytestmark = LONG
HOST, PLACE, TOKEN = "one", "monitoring", "canary-token-77c1"
SECRETS = f"{CORE}/namespaces/{PLACE}/secrets"
OWN = f"{SECRETS}/kube-prometheus-stack-dead-mans-switch"
CONFIG = f"{SECRETS}/kube-prometheus-stack-alertmanager-config"
KIND = f"{OPERATOR}/namespaces/{PLACE}"
GIVEN = "https://ping.example.com/canary-address-31"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("rig"), node=True) as found:
        yield found


@pytest.fixture
def far() -> Iterator[UptimeRobotFake]:
    with UptimeRobotFake(token=TOKEN) as fake:
        fake.add_contact("On call")
        yield fake


class Stack:
    """The role with a dead man's switch; whatever it prints, and shows as difference, has no secret."""

    def __init__(self, rig: Rig, folder: Path, far: UptimeRobotFake) -> None:
        self.rig, self.folder, self.far = rig, folder, far
        write_charts(folder)
        self.options = lives(folder, 0)["kube_prometheus_stack"].options | {"wait_timeout": 120}

    def play(self, *args: str, switch: dict[str, Any], **options: Any) -> Run:
        given = {**self.options, "dead_mans_switch": switch, **options}
        hosts = {HOST: {f"kube_prometheus_stack_{name}": value for name, value in given.items()}}
        common = {"cluster_kubeconfig": str(self.rig.kubeconfig()), "cluster_context": CONTEXT, "environment_name": "Test"}
        role = {"name": "Run it", "ansible.builtin.include_role": {"name": "flaskops.observability.kube_prometheus_stack"}}
        tasks = [{"name": "Run the role", "hosts": "all", "gather_facts": False, "tasks": [role]}]
        (self.folder / "play.yml").write_text(yaml.safe_dump(tasks))
        env = {"PATH": f"{programs('helm')}:{os.environ['PATH']}"}
        words = (str(self.folder / "play.yml"), "-vvv", "--diff", *args)
        done = playbook(*words, inventory=inventory_of(self.folder, hosts, **common), env=env, timeout=900)
        keys = [check["url"].rpartition("-")[2] for check in self.far.checks.values()]
        assert [secret for secret in (TOKEN, GIVEN, *keys) if secret in done.stdout + done.stderr] == []
        return done

    def run(self, *args: str, **options: Any) -> int:
        """How many tasks changed something; none may fail."""
        done = self.play(*args, **options)
        assert done.returncode == 0, done.error
        return changes(done)[HOST]

    def names(self) -> set[str]:
        """What is there of the stack."""
        return {path for path in self.rig.versions(*WATCHED) if path.partition(":")[2].startswith((f"{PLACE}/", f"/{PLACE}"))}

    def text(self, path: str, key: str) -> str:
        return base64.b64decode(self.rig.request("GET", path)["data"][key]).decode()

    def promised(self) -> dict[str, Any]:
        item = self.rig.request("GET", f"{KIND}/prometheuses/kube-prometheus-stack-prometheus")
        return dict(json.loads(item["metadata"]["annotations"]["flaskops/dead-mans-switch"]))


def test_from_one_token_to_an_armed_switch_and_back(rig: Rig, far: UptimeRobotFake, tmp_path: Path) -> None:
    stack = Stack(rig, tmp_path, far)
    switch = {"provider": "uptimerobot", "api_token": TOKEN, "api_url": far.url, "contacts": [{"contact": "On call"}]}
    assert stack.run("--check", switch=switch) > 0
    assert far.writes == [] and stack.names() == set()

    # Alertmanager is not configured with a heartbeat that can't be obtained.
    far.fail("POST /monitors", status=403, body={"message": "Your plan has no heartbeats"})
    refused = stack.play(switch=switch)
    assert refused.returncode and "Your plan has no heartbeats" in refused.error and stack.names() == set()

    assert stack.run(switch=switch) > 0
    (made,) = far.checks.values()
    assert (made["type"], made["tagNames"], made["interval"]) == ("HEARTBEAT", ["flaskops-heartbeat-test-one"], 300)
    assert stack.text(OWN, "url") == made["url"]
    config = yaml.safe_load(stack.text(CONFIG, "alertmanager.yaml"))
    (route,) = [each for each in config["route"]["routes"] if each["matchers"] == ['alertname="Watchdog"']]
    assert (route["receiver"], route["repeat_interval"]) == ("dead-mans-switch", "60s")
    (receiver,) = [each for each in config["receivers"] if each["name"] == route["receiver"]]
    mounted = "/etc/alertmanager/secrets/kube-prometheus-stack-dead-mans-switch/url"
    assert receiver["webhook_configs"] == [{"send_resolved": False, "url_file": mounted}]
    alertmanager = rig.request("GET", f"{KIND}/alertmanagers/kube-prometheus-stack-alertmanager")["spec"]
    assert alertmanager["secrets"] == ["kube-prometheus-stack-dead-mans-switch"]
    assert alertmanager["enableFeatures"] == ["receiver-name-in-metrics"]
    wanted = {"environment": "test-one", "name": "Watchdog of monitoring/kube-prometheus-stack"}
    assert stack.promised() == {"receiver": "dead-mans-switch", "every": 60, "heartbeat": wanted}

    assert stack.run(switch=switch) == 0
    assert stack.run("--check", switch=switch) == 0

    assert stack.run("--check", switch={**switch, "interval": 60}) > 0 and made["interval"] == 300
    assert stack.run(switch={**switch, "interval": 60}) > 0
    assert (*far.checks.values(),)[0]["interval"] == 60 and stack.promised()["every"] == 15

    assert stack.run("--check", switch=switch, state="absent") > 0 and far.checks
    assert stack.run(switch=switch, state="absent") > 0
    assert far.checks == {}
    assert stack.run(switch=switch, state="absent") == 0
    assert stack.names() == set()


def test_an_address_of_another_service(rig: Rig, far: UptimeRobotFake, tmp_path: Path) -> None:
    stack = Stack(rig, tmp_path, far)
    assert stack.run(switch={"url": GIVEN, "interval": 30}) > 0
    assert stack.text(OWN, "url") == GIVEN and GIVEN not in stack.text(CONFIG, "alertmanager.yaml")
    assert stack.promised() == {"receiver": "dead-mans-switch", "every": 7}
    assert stack.run(switch={"url": GIVEN, "interval": 30}) == 0

    # A Secret of the user's takes its place, and nothing of the former one stays.
    switch = {"secret": {"name": "ours", "key": "ping"}}
    missing = stack.play(switch=switch)
    assert missing.returncode and "ours" in missing.error and "ping" in missing.error
    rig.request("POST", SECRETS, {"metadata": {"name": "ours"}, "stringData": {"ping": GIVEN}})
    assert stack.run(switch=switch) > 0
    assert f"{CORE}/secrets:{PLACE}/kube-prometheus-stack-dead-mans-switch" not in stack.names()
    assert "secrets/ours/ping" in stack.text(CONFIG, "alertmanager.yaml")
    assert stack.run(switch={}) > 0
    assert "dead-mans-switch" not in stack.text(CONFIG, "alertmanager.yaml")
    assert stack.run(switch={}, state="absent") > 0
    assert far.requests == []
