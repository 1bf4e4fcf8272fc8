# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers of one text for Alertmanager and for its operator; those that can't work are named, without a credential."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import load_all
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.receivers import (
    configured,
    operated,
    problem,
    references,
    routes,
)

from tests.toolchain import programs

SECRET = {"secret": {"name": "s", "key": "k"}}
MAIL = {"type": "email", "to": "a@x", "from": "b@x", "smarthost": "mail:25"}
PASSWORD = {"http_config": {"basic_auth": {"username_file": "/u", "password": "hunter2"}}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": "none"}, ""),
        ({"type": "webhook"}, "without an address"),
        ({"type": "webhook", "url": "https://a.test/hook"}, ""),
        ({"type": "webhook", **SECRET}, ""),
        ({"type": "slack"}, "type slack has no credentials"),
        ({"type": "pagerduty"}, "type pagerduty has no credentials"),
        ({"type": "slack", **SECRET}, ""),
        ({"type": "teams", "url": "https://a.test/"}, "type teams has no credentials"),
        ({"type": "teams", **SECRET}, ""),
        ({"type": "email", "to": "a", "from": "b"}, "lacks to, from or smarthost"),
        (MAIL, ""),
        ({"type": "webhook", "url": "https://ann:hunter2@a.test"}, "credential"),
        ({"type": "webhook", "url": "https://a.test", "settings": PASSWORD}, "http_config.basic_auth.password"),
        ({"type": "webhook", "url": "a.test"}, "no web address"),
        ({"type": "none", "settings": {"url": "a.test"}}, "no web address"),
        ({"type": "webhook", "url": "https://a.test", "settings": {"oauth2": {"client_secret": SECRET["secret"]}}}, ""),
    ],
)
def test_problem(given: dict[str, Any], words: str) -> None:
    for of_operator in (False, True):
        found = problem([{"name": "fine", "type": "none"}, {"name": "it", **given}], of_operator)
        assert words in found and bool(found) == bool(words)
        assert "hunter2" not in found and (not words or "eceiver it " in found)


def test_what_only_an_alertmanager_config_can_t_have() -> None:
    drawn = {"name": "it", "type": "webhook", "url": "https://hooks.test/aBcDeFgHiJ0123456789kLmN"}
    assert problem([drawn]) == "" and "kLmN" not in problem([drawn], operated=True) != ""
    file = {"name": "it", "type": "pagerduty", **SECRET, "settings": {"http_config": {"bearer_token_file": "/t"}}}
    assert problem([file]) == "" and "bearer_token_file" in problem([file], operated=True)


SETTINGS = {
    "slack": {"icon_url": "http://x", "fields": [{"title": "a", "value": "b", "short": True}], "mrkdwn_in": ["text"]},
    "pagerduty": {"client_url": "http://x", "details": {"team": "web"}, "links": [{"href": "http://x", "text": "x"}]},
    "email": {"headers": {"Subject": "!"}, "require_tls": False, "tls_config": {"insecure_skip_verify": True}},
    "teams": {"title": "!", "http_config": {"tls_config": {"insecure_skip_verify": True}}},
    "webhook": {"max_alerts": 3, "http_config": {"authorization": {"credentials": {"name": "t", "key": "k"}}}},
}
ALL = [
    {"name": "hook", "type": "webhook", "url": "http://a.test/", "settings": SETTINGS["webhook"]},
    {"name": "hidden", "type": "webhook", **SECRET, "severities": ["critical", "warning"]},
    {"name": "chat", "type": "slack", "channel": "#ops", **SECRET, "send_resolved": False, "settings": SETTINGS["slack"]},
    {"name": "page", "type": "pagerduty", **SECRET, "settings": SETTINGS["pagerduty"]},
    {"name": "team", "type": "teams", **SECRET, "settings": SETTINGS["teams"]},
    {"name": "mail", **MAIL, **SECRET, "settings": SETTINGS["email"]},
    {"name": "open mail", **MAIL},
    {"name": "nobody", "type": "none"},
]


def test_alertmanager_takes_them(tmp_path: Path) -> None:
    config = {"route": {"receiver": "hook", "routes": routes(ALL)}, "receivers": [configured(item) for item in ALL]}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    amtool = shutil.which("amtool") or str(programs("alertmanager") / "amtool")
    done = subprocess.run([amtool, "check-config", tmp_path / "config.yml"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {item["name"]: item for item in config["receivers"]}
    folder = "/etc/alertmanager/secrets"
    assert found["hook"]["webhook_configs"][0]["http_config"] == {"authorization": {"credentials_file": f"{folder}/t/k"}}
    assert found["hidden"] == {"name": "hidden", "webhook_configs": [{"send_resolved": True, "url_file": f"{folder}/s/k"}]}
    assert found["chat"]["slack_configs"][0]["send_resolved"] is False
    (team,) = found["team"]["msteamsv2_configs"]
    assert team == {"send_resolved": True, "webhook_url_file": f"{folder}/s/k", **SETTINGS["teams"]}
    assert found["mail"]["email_configs"][0]["auth_password_file"] == f"{folder}/s/k"
    assert [route["matchers"] for route in routes(ALL)] == [['severity=~"critical|warning"']]


def unknown(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """What a schema of a definition does not have, or takes as another type."""
    kinds = {"string": str, "boolean": bool, "integer": int, "object": dict, "array": list}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        yield f"{path} is no {schema['type']}"
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in schema.get("properties", {}):
                yield from unknown(schema["properties"][key], item, f"{path}.{key}")
            elif "additionalProperties" not in schema:
                yield f"{path}.{key} is unknown"
        yield from (f"{path}.{key} is missing" for key in schema.get("required", []) if key not in value)
    elif isinstance(value, list):
        for item in value:
            yield from unknown(schema["items"], item, f"{path}[]")


def test_the_operator_takes_them() -> None:
    folder = programs("prometheus-operator") / "crds"
    (definition,) = load_all((folder / "monitoring.coreos.com_alertmanagerconfigs.yaml").read_text())
    (version,) = [item for item in definition["spec"]["versions"] if item["name"] == "v1alpha1"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["receivers"]
    found = [operated(item) for item in copy.deepcopy(ALL)]
    assert list(unknown(schema, found)) == []
    hook, hidden, chat, page, team, mail, *_ = found
    credentials = {"name": "t", "key": "k"}
    assert hook["webhookConfigs"][0]["httpConfig"] == {"authorization": {"credentials": credentials}}
    assert hidden["webhookConfigs"] == [{"sendResolved": True, "urlSecret": SECRET["secret"]}]
    assert chat["slackConfigs"][0]["iconURL"] == "http://x"
    assert page["pagerdutyConfigs"][0]["details"] == [{"key": "team", "value": "web"}]
    assert page["pagerdutyConfigs"][0]["pagerDutyLinkConfigs"] == [{"href": "http://x", "alt": "x"}]
    assert team["msteamsv2Configs"][0]["webhookURL"] == SECRET["secret"]
    assert mail["emailConfigs"][0]["tlsConfig"] == {"insecureSkipVerify": True}


def test_every_secret_of_a_receiver_is_looked_for() -> None:
    assert [references(item) for item in ALL[:3]] == [[{"name": "t", "key": "k"}], [SECRET["secret"]], [SECRET["secret"]]]
