# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the modules for external checks in this process against the fakes, on a clock that stands still until somebody sleeps."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args

ROOT = Path(__file__).resolve().parents[3]
for folder in (ROOT, ROOT / "collections"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import client, model, modules

from tests.fakes import FAKES, Clock

TOKEN = "canary-token-4f1d"
MODULES = {"uptimerobot": "uptimerobot_monitor", "pingdom": "pingdom_check", "statuscake": "statuscake_uptime_check"}
TAG = "flaskops-test"
NULL = object()  # a null that is given; None is an option that isn't
BASE = {"name": "shop", "environment": "test", "url": "https://shop.test/health"}
CREATE = {"uptimerobot": "POST /monitors", "pingdom": "POST /checks", "statuscake": "POST /uptime"}
LIST = {"uptimerobot": "GET /monitors", "pingdom": "GET /checks", "statuscake": "GET /uptime"}
READ = {"uptimerobot": "GET /monitors/*", "pingdom": "GET /checks/*", "statuscake": "GET /uptime/*"}
UPDATE = {"uptimerobot": "PATCH /monitors/*", "pingdom": "PUT /checks/*", "statuscake": "PUT /uptime/*"}
DELETE = {"uptimerobot": "DELETE /monitors/*", "pingdom": "DELETE /checks/*", "statuscake": "DELETE /uptime/*"}
# Fields of a check of a type that isn't managed.
OTHER: dict[str, dict[str, Any]] = {
    "uptimerobot": {"type": "PING"},
    "pingdom": {"type": "tcp"},
    "statuscake": {"test_type": "TCP"},
}
FIELD_TAGS = {"uptimerobot": "tagNames", "pingdom": "tags", "statuscake": "tags"}


class Called(Exception):
    """AnsibleModule was made."""


def specification(name: str) -> dict[str, Any]:
    """What a module gives to AnsibleModule."""
    module = importlib.import_module(f"ansible_collections.flaskops.observability.plugins.modules.{name}")
    name = "MaskingModule" if hasattr(module, "MaskingModule") else "AnsibleModule"
    with mock.patch.object(module, name, side_effect=Called) as made, pytest.raises(Called):
        module.main()
    return dict(made.call_args.kwargs)


def settle(provider: str) -> int:
    """Seconds for which a lost reply is waited for."""
    return modules.PROVIDERS[provider].settle


class Bench:
    """A fake of one provider and the modules that talk to it."""

    def __init__(self, provider: str, **fake_options: Any) -> None:
        self.provider, self.clock = provider, Clock()
        self.fake = FAKES[provider](token=TOKEN, clock=self.clock, **fake_options)
        self.time = types.SimpleNamespace(time=self.clock, sleep=self.clock.sleep)

    def run(self, name: str, check_mode: bool = False, /, **params: Any) -> dict[str, Any]:
        """Run a module; return its result, with failed and the exact text in `raw`."""
        module = importlib.import_module(f"ansible_collections.flaskops.observability.plugins.modules.{name}")
        given = {"api_token": TOKEN, "api_url": self.fake.url, **params}
        given = {key: None if value is NULL else value for key, value in given.items() if value is not None}
        given |= {"_ansible_check_mode": check_mode, "_ansible_diff": True}
        out = io.StringIO()
        warnings._global_warnings.clear()  # they outlive a module that runs in this process
        with (
            mock.patch.object(client, "time", self.time),
            # Where another test has imported a part of Ansible's controller, warnings would go to its screen.
            mock.patch.object(_internal, "is_controller", False),
            patch_module_args(given),
            contextlib.redirect_stdout(out),
            pytest.raises(SystemExit),
        ):
            module.main()
        result = json.loads(out.getvalue())
        assert TOKEN not in out.getvalue()
        if result.get("failed") and not result["msg"].startswith(("value of ", "argument ")):  # Ansible's own words
            check_sentence(result["msg"])
        # The controller turns these into texts again.
        result["warnings"] = [str(warning) for warning in result.get("warnings", [])]
        return {"failed": False, **result, "raw": out.getvalue()}

    def check(self, check_mode: bool = False, **params: Any) -> dict[str, Any]:
        """Run the provider's module for one check, on the check `shop` if nothing else is said."""
        base = {} if "id" in params else BASE
        return self.run(MODULES[self.provider], check_mode, **{**base, **params})

    @functools.cached_property
    def provider_object(self) -> model.Provider:
        """What the modules know of the provider; it sends nothing."""
        return modules.PROVIDERS[self.provider](cast(Any, None))

    def heal(self) -> None:
        """Take back all faults."""
        self.fake._faults.clear()

    def info(self, **params: Any) -> list[dict[str, Any]]:
        result = self.run(f"{MODULES[self.provider]}_info", **params)
        assert not result["failed"], result["msg"]
        return result["checks"]


def get(made: Bench, request: Any) -> Any:
    """What the fake answers to a request of its log."""
    query = urlencode({name: str(value).lower() if isinstance(value, bool) else value for name, value in request.query.items()})
    asked = Request(f"{made.fake.url}{request.path}?{query}", headers={"Authorization": f"Bearer {TOKEN}"})
    with urlopen(asked, timeout=10) as reply:
        return json.load(reply)


def check_sentence(text: str) -> None:
    """One sentence: a capital, a full stop, one line, no trace."""
    assert text.endswith(".") and not text.endswith(".."), text
    assert "\n" not in text and "Traceback" not in text and "'NoneType'" not in text, text
    assert text[0].isupper() or text[0].isdigit(), text
    assert len(text) < 700, text


@contextlib.contextmanager
def bench(provider: str, **fake_options: Any) -> Iterator[Bench]:
    made = Bench(provider, **fake_options)
    with made.fake:
        yield made
