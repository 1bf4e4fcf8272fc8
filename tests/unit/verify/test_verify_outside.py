# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link to the outside services, against their fakes."""

from __future__ import annotations

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.modules import TOKEN_VARIABLES
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import outside

from tests.fakes import FAKES


@pytest.mark.parametrize("provider", FAKES)
def test_states_of_a_provider(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FAKES[provider](token="secret-token") as fake:
        given = {"provider": provider, "api_url": fake.url}
        monkeypatch.delenv(TOKEN_VARIABLES[provider], raising=False)
        missing = outside.provider_link("test-one", given)
        assert (missing.status, TOKEN_VARIABLES[provider] in missing.cause) == ("failed", True)

        monkeypatch.setenv(TOKEN_VARIABLES[provider], "secret-token")
        assert "no check with the tag of the environment test-one" in outside.provider_link("test-one", given).cause

        (check,) = fake.seed(1, tags=["flaskops-test-one"])
        assert outside.provider_link("test-one", given).status == "ok"
        fake.set_status(check, "down")
        broken = outside.provider_link("test-one", given)
        assert (broken.status, "is down" in broken.cause) == ("failed", True)

        refused = outside.provider_link("test-one", {**given, "api_token": "wrong"})
        assert refused.status == "failed"
        assert "wrong" not in refused.cause + refused.evidence
