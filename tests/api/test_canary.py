# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Malformed kubeconfigs with a credential, through the role of every stage at -vvv: each is refused, and nothing shows it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from tests.api.test_access import ROLES
from tests.api_rig import Rig
from tests.canary import CANARY, MALFORMED, leaks
from tests.harness import ROOT, inventory_of, playbook
from tests.toolchain import programs

# The unit tests have more.
CASES = (
    "a line break inside a token",
    "a line break inside a token's file",
    "a token that is a mapping",
    "a list",
    "a user's keys beside the user",
    "broken in the line of the token",
    "a key that is no base64",
    "a proxy that is malformed",
)


APP = {"name": "shop", "namespace": "canary"}
# Credentials beside the kubeconfig, which the roles see before it is refused.
BESIDE = {
    "verify_log_backends": [{"type": "elasticsearch", "url": "https://logs.test", "username": "ann", "password": f"{CANARY}\n"}],
    "external_checks_providers": [{"provider": "uptimerobot", "api_token": CANARY}],
    "kube_prometheus_stack_receivers": [{"name": "chat", "type": "webhook", "url": f"https://chat.test/{CANARY}"}],
    "elastic_stack_shipper_password": CANARY,
}


def test_every_role_refuses_it_and_shows_nothing(tmp_path: Path) -> None:
    hosts, wanted = {}, {}
    for number, case in enumerate(CASES):
        folder = tmp_path / f"case-{number}"
        folder.mkdir()
        path, wanted[folder.name] = MALFORMED[case](folder)
        options = {key: value for role in ROLES.values() for key, value in role.items()}
        hosts[folder.name] = {"cluster_kubeconfig": path, **options, **BESIDE}
    tasks = [
        {
            "block": [{"ansible.builtin.include_role": {"name": f"flaskops.observability.{role}"}}],
            "rescue": [{"ansible.builtin.debug": {"msg": f"{role} has failed: {{{{ ansible_failed_result.msg }}}}"}}],
        }
        for role in ROLES
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    args = (str(tmp_path / "play.yml"), "-vvv", "--diff", "--forks", "4")
    done = playbook(*args, inventory=inventory_of(tmp_path, hosts), env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})
    said = done.stdout + done.stderr
    assert not leaks(said), leaks(said)[:3]
    for host, key in wanted.items():
        failed = re.findall(rf'^ok: \[{host}\] => \{{\n    "msg": "(\w+) has failed: (.*)"$', done.stdout, re.MULTILINE)
        assert [role for role, _text in failed] == list(ROLES), (host, failed)
        said_of = dict(failed)
        assert "password" in said_of.pop("verify")  # the only role that asks a backend itself, so it looks at that first
        assert all(key in text and f"{host}/config" in text for text in said_of.values()), (host, key, failed)


SECRET_URL = f"https://hooks.slack.com/services/T01234567/B01234567/{CANARY}"
# Receivers, and what the sentence names that refuses them; none for one that amtool takes.
RECEIVERS: dict[str, tuple[dict[str, Any], str]] = {
    "good": ({"url": SECRET_URL}, ""),
    "unknown-setting": ({"url": SECRET_URL, "settings": {"colour": "red"}}, "colour"),
    "without-a-scheme": ({"url": SECRET_URL.removeprefix("https://")}, "chat has a url"),
    "control-character": ({"url": f"{SECRET_URL}\x7f"}, "chat has a url"),
    "line-break": ({"url": f"{SECRET_URL}\nx"}, "chat has a url"),
    "bad-port": ({"url": f"https://hooks.slack.com:{CANARY}/"}, "chat has a url"),
    "bad-setting": ({"url": "http://a", "settings": {"url": f"%{SECRET_URL}"}}, "chat has a url"),
    "login": ({"url": f"https://ann:{CANARY}@chat.test"}, "url"),
    "password": ({"url": "http://a", "settings": {"http_config": {"basic_auth": {"password": CANARY}}}}, "basic_auth.password"),
}


def test_receivers_are_checked_and_no_address_is_shown(tmp_path: Path) -> None:
    """amtool sees those that the role's own checks let through; what it says of them names no address."""
    programs("alertmanager")
    hosts = {}
    for name, (receiver, _key) in RECEIVERS.items():
        entry = "configuration" if name in ("good", "unknown-setting") else "main"
        hosts[name] = {"kube_prometheus_stack_receivers": [{"name": "chat", "type": "webhook", **receiver}], "entry": entry}
    shared = {
        "kube_prometheus_stack_kubeconfig": "/nowhere",
        "__kube_prometheus_stack_images": f"{{{{ lookup('ansible.builtin.file', '{ROOT}/images.yml') | from_yaml }}}}",
    }
    role = {"name": "flaskops.observability.kube_prometheus_stack"}
    tasks = [
        {"ansible.builtin.include_role": {**role, "tasks_from": entry}, "when": f"entry == '{entry}'"}
        for entry in ("main", "configuration")
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    args = (str(tmp_path / "play.yml"), "-vvv", "--diff")
    done = playbook(*args, inventory=inventory_of(tmp_path, hosts, **shared), env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})
    said = done.stdout + done.stderr
    assert not leaks(said), leaks(said)[:3]
    failed = dict(re.findall(r'^fatal: \[([\w-]+)\]: FAILED! => \{\n(?:    .*\n)*?    "msg": "(.*)"$', done.stdout, re.MULTILINE))
    assert set(failed) == set(RECEIVERS) - {"good"}, done.stdout[-3000:]
    assert all(RECEIVERS[name][1] in text for name, text in failed.items()), failed


def test_a_login_among_requirements_is_refused_and_never_shown(tmp_path: Path) -> None:
    """By site.yml, whose loops over the applications show no application either."""
    requirements = [
        f"private @ https://ann:{quote(CANARY, safe='')}@pypi.test/x.whl",
        f"slash @ git+https://ann:{CANARY}@git.test/x.git@main",
        f"token @ https://{CANARY.replace('/', '')}@pypi.test/x.whl",
        f"--index-url https://ann:{CANARY}@pypi.test",
        "public @ git+https://git.test:8443/x.git@main",
        "ssh @ git+ssh://git@git.test/x.git",
        "flask>=3",
    ]
    shop = {"name": "shop", "wsgi": "app:app", "requirements": requirements, "environment": {"PASSWORD": CANARY}}
    shared = {"ansible_connection": "local", "cluster_provider": "existing", "environment_name": "test", "flask_apps": [shop]}
    shared["flask_apps"] += [{"name": "made", "image": "made:1", "environment": {"PASSWORD": CANARY}}]
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"one": None}, "vars": shared}}))
    done = playbook("site.yml", "--tags", "image", "-vvv", "--diff", inventory=("-i", str(tmp_path / "hosts.yml")))
    assert re.search(r"login for private and slash and token and --index-url,", done.error), done.error
    assert not leaks(done.stdout + done.stderr)


# A chart that writes what it is given where it belongs, and where the API server would quote it.
TEMPLATES = {
    "secret.yaml": """\
apiVersion: v1
kind: Secret
metadata: {name: web}
stringData: {password: {{ .Values.password | quote }}}
""",
    "config.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata: {name: web, labels: {word: {{ .Values.wordOf.token | default "one" | quote }}}}
data: {count: {{ .Values.count | quote }}}
""",
}
SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "canary"}}


def a_secret(name: str, **content: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "canary"}, "stringData": content}


def test_no_action_shows_a_credential_that_it_works_with(rig: Rig, tmp_path: Path) -> None:
    """What is registered, differences and errors, at -vvv: of what is made, changed, found again, refused and removed."""
    (tmp_path / "web/templates").mkdir(parents=True)
    (tmp_path / "web/Chart.yaml").write_text("apiVersion: v2\nname: web\nversion: 1.0.0\n")
    (tmp_path / "web/values.yaml").write_text("wordOf: {}\ncount: 1\n")
    for name, text in TEMPLATES.items():
        (tmp_path / "web/templates" / name).write_text(text)
    own = {"owner": "canary", "prune": False, "wait": False}
    url = f"https://ann:{CANARY}@hooks.test"
    backends = f'[{{"type": "loki", "url": "{url}", "password": "{CANARY}'
    release = {"name": "web", "namespace": "canary", "chart": {"ref": str(tmp_path / "web")}}
    values = {"password": CANARY}
    quoted = {"wordOf": {"token": f"{CANARY} {CANARY}"}}
    asked = {"external_checks": [{"provider": "uptimerobot", "api_token": CANARY, "api_url": "http://127.0.0.1:9"}], "timeout": 5}
    receiver = {"name": "chat", "type": "webhook", "url": url}
    steps: list[tuple[str, dict[str, Any], str]] = [
        ("objects", {**own, "definitions": [SPACE, a_secret("one", token=CANARY)]}, ""),
        ("objects", {**own, "definitions": [a_secret("two", **{"log_backends.json": backends})]}, ""),
        ("objects", {**own, "definitions": [a_secret("one", token=CANARY * 2)]}, ""),
        ("objects", {**own, "definitions": [{**a_secret("one", token=CANARY), "immutable": CANARY}]}, "Secret canary/one"),
        ("objects", {**own, "definitions": [a_secret("one", token=CANARY, **{CANARY: "x"})]}, "Secret canary/one"),
        ("release", {**release, "values": values}, ""),
        ("release", {**release, "values": {"password": f"{CANARY}2"}}, ""),
        ("release", {**release, "values": {**values, **quoted}}, "release web"),
        ("release_info", {"namespace": "canary", "releases": ["web"], "secrets": ["one"], "objects": [a_secret("one")]}, ""),
        ("schedule_access", {**APP, "secret": "two"}, "Secret two"),
        ("public_urls", {"places": [{"name": "a", "app": "nobody", "namespace": "canary"}], "wait_timeout": 1}, "nobody"),
        ("app_monitoring", {**APP, "receivers": [receiver]}, "chat"),
        ("verify", {**APP, **asked, "log_backends": [{"type": "loki", "url": "http://127.0.0.1:9", "password": CANARY}]}, ""),
        ("verify", {**APP, **asked, "log_backends": [{"type": "loki", "url": url}]}, "Entry 1 of log_backends"),
        ("verify", {**APP, **asked, "log_backends": [{"type": "loki", "password": CANARY}]}, "url"),
        ("definitions", {"group": "canary.test", "own": [a_secret("one", token=CANARY)]}, ""),
        ("release", {**release, "state": "absent"}, ""),
        ("objects", {**own, "state": "absent", "known": [SPACE, a_secret("one"), a_secret("two")]}, ""),
    ]
    tasks: list[dict[str, Any]] = []
    for number, (action, options, problem) in enumerate(steps):
        call = {f"flaskops.observability.{action}": {"kubeconfig": str(rig.kubeconfig()), **options}}
        if action in ("objects", "release") and not problem:
            tasks.append({**call, "check_mode": True})
        tasks.append({**call, "register": f"step_{number}", "ignore_errors": bool(problem)})
    said = "{{ [" + ", ".join(f"step_{number}" for number in range(len(steps))) + "] | to_json }}"
    tasks.append({"ansible.builtin.copy": {"content": said, "dest": str(tmp_path / "said")}, "no_log": True})
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    env = {"PATH": f"{programs('helm')}:{os.environ['PATH']}", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = playbook(str(tmp_path / "play.yml"), "-vvv", "--diff", inventory=inventory_of(tmp_path, {"here": None}), env=env)
    assert done.returncode == 0, done.stdout[-5000:]
    shown = done.stdout + done.stderr
    for (action, _options, problem), found in zip(steps, json.loads((tmp_path / "said").read_text()), strict=True):
        assert found.get("failed", False) == bool(problem), (action, found)
        assert problem in found.get("msg", ""), (action, found)
    assert not leaks(shown), leaks(shown)[:3]
