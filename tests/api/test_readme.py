# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory and the playbook of the README, as they stand there, by the installed collection: in check mode, and the playbook
as far as it goes where pods are said to run and none answers. tests/integration/test_readme.py runs it on a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api_rig import Rig, running
from tests.fakes.operator import operator
from tests.readme import ABSENT, INVENTORY, PLAYBOOK, Home, rows

# Charts and images of the stack and of the logs are in registries.
HERE = ("-e", "monitoring_provider=existing", "-e", "logging_provider=none")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("rig"), node=True) as found, operator(found):
        yield found


@pytest.fixture(scope="module")
def home(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"), rig.kubeconfig())


def test_the_inventory_is_accepted(home: Home) -> None:
    """The image, the application and its monitoring are planned, and verify says that it does nothing here."""
    assert home.site(INVENTORY, *HERE, "--check").changed >= 3
    assert home.machine.read()["images"]["docker"] == []


def test_the_playbook_is_accepted(home: Home) -> None:
    assert home.play(PLAYBOOK, "--check").changed >= 2


def test_the_playbook_deploys_watches_and_verifies_and_its_options_remove_all(home: Home, rig: Rig) -> None:
    """verify finds what was applied, and blames what is silent."""
    before = rig.versions("/api/v1/namespaces").keys()
    done = home.play(PLAYBOOK, "-e", "verify_wait_timeout=5")
    found = rows(done)
    assert found["rollout"] == found["promise"] == "ok" and found["health"] == "FAILED", done.stdout
    assert "broken links: health" in done.error
    assert home.play(PLAYBOOK, *ABSENT).changed == 2
    assert home.play(PLAYBOOK, *ABSENT).changed == 0
    assert rig.versions("/api/v1/namespaces").keys() == before


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("source:", "sources:", "sources"),
        ("verify: {", "verify: {schedul: 1, ", "schedul"),
        ("image_delivery: push", "image_delivery: mail", "flask_image_delivery"),
        ("my-context ", "another ", "another"),
    ],
)
def test_a_wrong_inventory_is_refused(home: Home, right: str, wrong: str, named: str) -> None:
    assert right in INVENTORY and named in home.site(INVENTORY.replace(right, wrong), *HERE, "--check").error


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("flask_app_image:", "flask_app_imagee:", "flask_app_image"),
        ("verify_notified_severities: []", "verify_notified_severities: [loud]", "verify_notified_severities"),
        ("my-context", "another", "another"),
    ],
)
def test_a_wrong_playbook_is_refused(home: Home, right: str, wrong: str, named: str) -> None:
    assert right in PLAYBOOK and named in home.play(PLAYBOOK.replace(right, wrong), "--check").error
