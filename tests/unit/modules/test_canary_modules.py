# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules with credentials in malformed options: what they print and what they write to the journal shows none."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful

from tests.canary import CANARY, MALFORMED, leaks
from tests.harness import DEAD_KUBECONFIG, ROOT, inventory_of, playbook

APP: dict[str, Any] = {"name": "shop", "namespace": "shop"}
# The modules that read a kubeconfig, with what they need beside it.
READERS: dict[str, dict[str, Any]] = {
    "cluster_access": {},
    "drill": {**APP, "environment_name": "test", "safe_environments": ["test"]},
    "elastic_content": APP,
}
BACKEND = {"type": "elasticsearch", "url": "https://logs.test"}
CHECKS = {"provider": "uptimerobot", "api_token": "x", "environment": "e"}
# Options that are refused, and what the sentence must name.
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a provider's token with a line break": (
        "drill",
        {**APP, "external_checks": [{"provider": "uptimerobot", "api_token": f"{CANARY}\n"}], "environment_name": "test"},
        "",
    ),
    "a token with a line break": ("external_checks", {**CHECKS, "checks": [], "api_token": f"{CANARY}\n"}, "api_token"),
    "a token in the address": (
        "external_checks",
        {**CHECKS, "checks": [], "api_url": "https://[x", "api_token": CANARY},
        "api_url",
    ),
    "a password in a provider's options": (
        "external_checks",
        {**CHECKS, "checks": [{"name": "a", "url": "https://a.test", "uptimerobot": {"http_password": CANARY}}]},
        "http_password",
    ),
    "a password beside a bad state": (
        "external_checks",
        {**CHECKS, "checks": [{"name": "a", "state": "x", "uptimerobot": {"http_password": CANARY}}]},
        "state",
    ),
    "a secret of a build as one text": (
        "container_image",
        {"repository": "localhost/a", "containerfile_content": "FROM x", "build_secrets": f"netrc={CANARY}"},
        "netrc",
    ),
    "a secret of a build in a list": (
        "container_image",
        {"repository": "localhost/a", "containerfile_content": "FROM x", "build_secrets": {"netrc": [CANARY]}},
        "netrc",
    ),
}


def run(name: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """What a module answers, and all that it has printed or written to the journal."""
    module = importlib.import_module(f"ansible_collections.flaskops.observability.plugins.modules.{name}")
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {**options, "_ansible_verbosity": 3}}).encode()
    journal: list[str] = []
    with (
        mock.patch.object(basic, "_ANSIBLE_ARGS", arguments),
        mock.patch.object(basic, "_ANSIBLE_PROFILE", "legacy"),
        mock.patch.object(basic.AnsibleModule, "_log_to_syslog", lambda _module, text: journal.append(text)),
        mock.patch.object(basic, "has_journal", False),
        pytest.raises(SystemExit),
    ):
        careful(module.main)()
    said = capsys.readouterr()
    return json.loads(said.out.splitlines()[-1]), said.out + said.err + "\n".join(journal)


@pytest.mark.parametrize("case", ["users that are no list", "a user's keys beside the user", "a token that is a mapping"])
@pytest.mark.parametrize("name", READERS)
def test_no_module_shows_a_malformed_kubeconfig(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, case: str) -> None:
    path, key = MALFORMED[case](tmp_path)
    options = {**READERS[name], "kubeconfig": path}
    answer, said = run(name, options, capsys)
    assert answer["failed"] and key in answer["msg"] and path in answer["msg"]
    assert not leaks(said)


@pytest.mark.parametrize("case", REFUSED)
def test_no_module_shows_a_credential_that_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    name, options, key = REFUSED[case]
    # An engine, which is asked nothing but its version before the secrets are read.
    (tmp_path / "podman").write_text('#!/bin/sh\n[ "$1" = version ]\n')
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    answer, said = run(
        name, {"kubeconfig": "/nowhere", **options} if name not in ("container_image", "external_checks") else options, capsys
    )
    assert answer["failed"] and key in answer["msg"]
    assert not leaks(said), said


SLACK = f"https://hooks.slack.com/services/T01234567/B01234567/{CANARY}/aBcDeFgHiJ0123456789kLmN"
# The actions, whose tasks fail in their own process, with options and what the sentence must name.
ACTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a webhook that is a credential": (
        "app_monitoring",
        {**APP, "receivers": [{"name": "chat", "type": "webhook", "url": SLACK}]},
        "chat",
    ),
    "a webhook with a login": (
        "app_monitoring",
        {**APP, "receivers": [{"name": "chat", "type": "webhook", "url": f"https://ann:{CANARY}@chat.test"}]},
        "chat",
    ),
    "a receiver of a bad type": (
        "app_monitoring",
        {**APP, "receivers": [{"name": "chat", "type": "telepathy", "url": SLACK}]},
        "type",
    ),
    "a Secret for a cluster that does not answer": (
        "objects",
        {"owner": "a", "definitions": [{"apiVersion": "v1", "kind": "Secret", "stringData": {"a": CANARY}}]},
        "127.0.0.1",
    ),
    "a Secret that is a text": ("objects", {"owner": "a", "definitions": CANARY}, "definitions"),
    "a value that is a text": ("release", {**APP, "chart": {"ref": "/nowhere"}, "values": CANARY}, "values"),
    "a login in a chart's address": (
        "release",
        {**APP, "chart": {"ref": "x", "repository": f"https://a:{CANARY}@x"}},
        "127.0.0.1",
    ),
    "a header of a check": ("public_urls", {"places": [{"name": "a", "headers": {"X-Token": CANARY}}]}, "headers"),
    "an object that is a text": ("release_info", {**APP, "objects": CANARY}, "objects"),
    "a definition's owner that is a text": ("definitions", {"group": "a.test", "own": CANARY}, "own"),
    "a login in an address": ("verify", {**APP, "log_backends": [{**BACKEND, "url": f"https://ann:{CANARY}@logs.test"}]}, "url"),
    "a login in no address": ("verify", {**APP, "log_backends": [{**BACKEND, "url": f"https://ann:{CANARY}@[logs"}]}, "url"),
    "a login beside a bad type": (
        "verify",
        {**APP, "log_backends": [{**BACKEND, "type": "x", "url": f"https://ann:{CANARY}@l.test"}]},
        "type",
    ),
    "a key with a line break": ("verify", {**APP, "log_backends": [{**BACKEND, "api_key": f"{CANARY}\n"}]}, "api_key"),
    "a password with a line break": (
        "verify",
        {**APP, "log_backends": [{**BACKEND, "username": "ann", "password": f"{CANARY}\r\nX: y"}]},
        "password",
    ),
    "a Secret's content in the place of its name": ("schedule_access", {**APP, "secret": [CANARY, {}]}, "127.0.0.1"),
}
# What each action needs to get as far as a kubeconfig.
NEEDED: dict[str, dict[str, Any]] = {
    "app_monitoring": APP,
    "definitions": {"group": "a.test"},
    "login_info": {"host": "a", "namespace": "shop"},
    "objects": {"owner": "a"},
    "public_urls": {"places": [{"name": "a"}]},
    "release": {**APP, "chart": {"ref": "a"}},
    "release_info": {"namespace": "shop"},
    "schedule_access": APP,
    "unlisted_apps": {"listed": []},
    "verify": APP,
}
ACTIONS |= {f"a kubeconfig with a bad token for {action}": (action, options, "token") for action, options in NEEDED.items()}


def test_every_action_on_a_cluster_is_among_them() -> None:
    """But for the two that others ask: `cluster_access` for the roles, and `chart`, which reaches no cluster."""
    texts = {path.stem: path.read_text() for path in (ROOT / "plugins/action").glob("*.py")}
    assert {name for name, text in texts.items() if "api_client(" in text} == set(NEEDED)


def test_no_action_shows_a_credential(tmp_path: Path) -> None:
    path, _key = MALFORMED["a token that is a mapping"](tmp_path)
    good = tmp_path / "good"
    good.write_text(DEAD_KUBECONFIG)
    tasks: list[dict[str, Any]] = []
    for number, (case, (action, options, _key)) in enumerate(ACTIONS.items()):
        given = {"kubeconfig": path if "kubeconfig" in case else str(good), **options}
        tasks.append({f"flaskops.observability.{action}": given, "ignore_errors": True, "register": f"case_{number}"})
    said = "{{ [" + ", ".join(f"case_{number}" for number in range(len(ACTIONS))) + "] | map(attribute='msg') | to_json }}"
    tasks.append({"ansible.builtin.copy": {"content": said, "dest": str(tmp_path / "said")}})
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = playbook(str(tmp_path / "play.yml"), "-vvv", "--diff", inventory=inventory_of(tmp_path, {"here": None}))
    assert done.returncode == 0, done.stdout[-3000:]
    assert not leaks(done.stdout + done.stderr), leaks(done.stdout + done.stderr)[:3]
    for text, (case, (_action, _options, key)) in zip(json.loads((tmp_path / "said").read_text()), ACTIONS.items(), strict=True):
        assert key in text, (case, text)
