# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link to the outside services, against their fakes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.modules import TOKEN_VARIABLES
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import outside
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Target

from tests.fakes import FAKES, Fake

TAG = "flaskops-test-one"


def contact(provider: str, fake: Fake) -> dict[str, Any]:
    """What a check has in the provider's own words that alerts somebody."""
    key = fake.add_contact("On call")
    return {
        "uptimerobot": {"assignedAlertContacts": [{"alertContactId": key, "threshold": 0, "recurrence": 0}]},
        "pingdom": {"userids": str(key)},
        "statuscake": {"contact_groups": [str(key)]},
    }[provider]


def ask(provider: str, fake: Fake, token: str = "secret-token", **options: Any) -> outside.Result:
    target = Target(environment="test-one", **options)
    return outside.provider_link(target, {"provider": provider, "api_url": fake.url, "api_token": token})


@pytest.mark.parametrize("provider", FAKES)
def test_states_of_a_provider(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FAKES[provider](token="secret-token") as fake:
        monkeypatch.delenv(TOKEN_VARIABLES[provider], raising=False)
        missing = ask(provider, fake, token="")
        assert (missing.status, TOKEN_VARIABLES[provider] in missing.cause) == ("failed", True)

        monkeypatch.setenv(TOKEN_VARIABLES[provider], "secret-token")
        assert "no check with the tag of the environment test-one" in ask(provider, fake, token="").cause

        (check,) = fake.seed(1, tags=[TAG], **contact(provider, fake))
        assert ask(provider, fake).status == "ok"
        fake.set_status(check, "down")
        broken = ask(provider, fake)
        assert (broken.status, "is down" in broken.cause) == ("failed", True)

        refused = ask(provider, fake, token="wrong")
        assert refused.status == "failed"
        assert "wrong" not in refused.cause + refused.evidence


@pytest.mark.parametrize("provider", FAKES)
def test_a_check_that_alerts_nobody(provider: str) -> None:
    with FAKES[provider](token="secret-token") as fake:
        fake.seed(1, name="home", tags=[TAG])
        fake.seed(1, name="api", tags=[TAG], **contact(provider, fake))
        fake.seed(1, name="theirs")
        silent = ask(provider, fake)
        assert (silent.status, silent.cause) == ("failed", "home alerts nobody: set contacts")
        # Where nobody is to be notified, that is no fault, and no check is asked for it.
        fake.requests.clear()
        assert ask(provider, fake, notified_severities=[]).status == "ok"
        assert len(fake.requests) == 1


def test_a_team_or_an_integration_of_pingdom_is_somebody() -> None:
    with FAKES["pingdom"](token="secret-token") as fake:
        fake.seed(1, name="home", tags=[TAG], teamids=str(fake.add_contact("Everybody", team=True)))
        fake.seed(1, name="api", tags=[TAG], integrationids=[7])
        assert ask("pingdom", fake).status == "ok"


@pytest.mark.parametrize("provider", FAKES)
def test_a_check_of_the_application_that_is_gone_or_paused(provider: str) -> None:
    with FAKES[provider](token="secret-token") as fake:
        given = {"tags": [TAG], **contact(provider, fake)}
        fake.seed(1, name="home", **given)
        (api,) = fake.seed(1, name="api", paused=True, **given)
        # Somebody's own check of the environment may be paused.
        assert ask(provider, fake, check_names=["home"]).status == "ok"
        paused = ask(provider, fake, check_names=["home", "api"])
        assert (paused.status, paused.cause) == ("failed", "api is paused")
        fake.remove(api)
        gone = ask(provider, fake, check_names=["home", "api"])
        assert (gone.status, gone.cause, gone.evidence) == ("failed", "api is missing", "1 of 2 checks are up")
        assert ask(provider, fake, check_names=["home"]).status == "ok"
