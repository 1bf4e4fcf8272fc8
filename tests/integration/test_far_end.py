# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shared cluster's dead man's switch: a far end that keeps time notices each silence within its bound, and its end."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import App, Options
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.model import owner_tag
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster

from tests.fakes import UptimeRobotFake
from tests.harness import LONG, Cluster, Run, engine_env, playbook, until
from tests.integration.test_drill import as_before, at_rest, judge, objects, options

pytestmark = LONG
TOKEN = "canary-token-5e0d"
INTERVAL, GRACE = 60, 30
# What Alertmanager and the network may add to the patience of the far end.
MORE = 20


class FarEnd:
    """A provider on this machine that the cluster's pods reach, and the switch that the stack has there."""

    def __init__(self, fake: UptimeRobotFake) -> None:
        self.fake = fake
        self.given = {"provider": "uptimerobot", "api_token": TOKEN, "api_url": fake.url}
        contacts = [{"contact": "On call"}]
        self.switch = {**self.given, "contacts": contacts, "interval": INTERVAL, "grace_period": GRACE}

    def run(self, *args: str) -> Run:
        return playbook("site.yml", *args, extra={"kube_prometheus_stack_dead_mans_switch": self.switch})

    def status(self) -> str:
        (heartbeat,) = (check for check in self.fake.checks.values() if check["type"] == "HEARTBEAT")
        return self.fake.status(heartbeat)

    def turns(self, wanted: str, seconds: float) -> float:
        """Seconds until the far end says what is wanted."""
        began = time.monotonic()
        until(lambda: self.status() == wanted, seconds, f"the far end's {wanted}")
        return time.monotonic() - began


@pytest.fixture(scope="module")
def far(cluster: Cluster) -> Iterator[FarEnd]:
    with UptimeRobotFake(token=TOKEN, address=cluster.host) as fake:
        fake.add_contact("On call")
        # A drill asks for the application's checks too, which have to be there; no provider reaches an address of this machine,
        # so it is asked from here.
        tag = owner_tag("local-flaskops-test")
        check = fake.add_check(fake.new_check(fake.neutral("flask-app", "https://shop.example.com/health", 300, [tag], False)))
        over, url = Event(), f"http://{cluster.address('flask-app', 'flask-app')}/health"

        def look() -> None:
            while not over.wait(1):
                try:
                    with urllib.request.urlopen(url, timeout=3):
                        fake.checks[check]["_status"] = "up"
                except OSError:
                    fake.checks[check]["_status"] = "down"

        looking = Thread(target=look)
        looking.start()
        yield FarEnd(fake)
        over.set()
        looking.join()
    playbook("site.yml", "--tags", "monitoring")


def test_one_run_arms_it_and_the_next_changes_nothing(far: FarEnd) -> None:
    assert far.run("--tags", "monitoring").changed > 0
    far.turns("UP", INTERVAL + GRACE)
    writes = list(far.fake.writes)
    assert far.run("--tags", "monitoring").changed == 0 and far.fake.writes == writes
    row = next(line for line in far.run("--tags", "verify").stdout.splitlines() if line.startswith("dead man's switch"))
    assert row.split()[3] == "ok"


# Alertmanager forgets Watchdog minutes after Prometheus is gone, and goes on asking until then.
@pytest.mark.parametrize(("scenario", "most"), [("prometheus_down", 480), ("alertmanager_down", 240), ("cluster_dark", 240)])
def test_a_drill_is_noticed_there(far: FarEnd, cluster: Cluster, tmp_path: Path, scenario: str, most: int) -> None:
    until(lambda: at_rest(cluster), 180, "the end of what was before")
    far.turns("UP", INTERVAL + GRACE)
    app, before = App(KubeCluster(cluster.api), Options()), objects(cluster)
    extra: dict[str, Any] = options(tmp_path, scenario, external_checks_providers=[far.given], drill_notice_timeout=most)
    assert playbook("playbooks/drill.yml", extra=extra).changed == 0
    seen = {(each["observer"], each["event"]): each for each in judge(tmp_path, scenario)[scenario]["observations"]}
    found = seen["dead man's switch", "down"]
    assert found["verdict"] in {"within", "late"} and found["at"] < most, found
    far.turns("UP", INTERVAL + GRACE)
    as_before(cluster, app, before)


def test_a_node_that_is_killed_is_noticed_there(far: FarEnd) -> None:
    far.turns("UP", INTERVAL + GRACE)
    subprocess.run(["podman", "kill", "flaskops-test-node"], check=True, capture_output=True, env=engine_env())
    assert far.turns("DOWN", INTERVAL + GRACE + MORE) > 0
    assert playbook("site.yml", "--tags", "cluster,app,verify").changed == 1
    far.turns("UP", INTERVAL + GRACE)
