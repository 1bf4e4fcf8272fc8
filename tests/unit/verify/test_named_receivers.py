# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Five types of receivers, each broken in five ways and whole, at a real Alertmanager: who is blamed, and who got something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import objects, receivers
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import named_receivers
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Run, Target

from tests import alertmanager
from tests.alertmanager import Api, answer
from tests.fakes import on_call
from tests.fakes.on_call import BUSY, TOKEN, OnCall
from tests.node import free_port

TYPES = ("webhook", "slack", "pagerduty", "teams", "email")
FAULTS = ("token", "address", "tls", BUSY, "template")
# What the cause must say of a fault, and in whose words.
SAID: dict[str, tuple[str, dict[str, str]]] = {
    "token": (
        "refuses the credentials",
        {"webhook": "401", "slack": "invalid_token", "pagerduty": "Invalid routing key", "teams": "401", "email": "535"},
    ),
    "address": (
        "address is wrong",
        {"webhook": "refused", "slack": "no_service", "pagerduty": "404", "teams": "WorkflowNotFound", "email": "550"},
    ),
    "tls": ("no TLS", dict.fromkeys(TYPES, "x509")),
    BUSY: (
        "sent too much",
        {"webhook": "429", "slack": "rate_limited", "pagerduty": "429", "teams": "TooManyRequests", "email": "450"},
    ),
    # A webhook has no template: what can't be made of it is its address, of a file that is not there.
    "template": ("its template fails", dict.fromkeys(TYPES, "nope")),
}
NOPE = '{{ template "nope" . }}'
TEMPLATE = {
    "slack": {"text": NOPE},
    "pagerduty": {"description": NOPE},
    "teams": {"text": NOPE},
    "email": {"headers": {"Subject": NOPE}},
}


def name_of(kind: str, fault: str) -> str:
    return f"{fault}_{kind}"


class Secrets:
    """Files as the operator mounts them, of which each receiver has one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, value: str) -> dict[str, str]:
        (self.folder / name).mkdir(parents=True)
        (self.folder / name / "key").write_text(value)
        return {"name": name, "key": "key"}


def receiver(kind: str, fault: str, there: OnCall, secrets: Secrets) -> dict[str, Any]:
    """A receiver as the role takes it."""
    name = name_of(kind, fault)
    port = there.strangers_https if fault == "tls" else there.https
    token = "wrong-token" if fault == "token" else TOKEN
    whose = "gone" if fault == "address" else name
    trust = {"tls_config": {"ca_file": str(there.authority)}}
    settings: dict[str, Any] = {"http_config": trust, **(TEMPLATE.get(kind, {}) if fault == "template" else {})}
    base = f"https://127.0.0.1:{port}"
    given: dict[str, Any] = {"name": name, "type": kind, "settings": settings}
    if kind == "webhook":
        settings["http_config"] = {**trust, "authorization": {"credentials": secrets.add(f"{name}-login", token)}}
        url = f"https://127.0.0.1:{free_port()}/" if fault == "address" else f"{base}/webhook/{name}"
        return {**given, "secret": {"name": "nope", "key": "url"} if fault == "template" else secrets.add(name, url)}
    if kind == "slack":
        return {**given, "secret": secrets.add(name, f"{base}/slack/{whose}?token={token}")}
    if kind == "teams":
        return {**given, "secret": secrets.add(name, f"{base}/workflows/{whose}?sig={token}")}
    if kind == "pagerduty":
        settings["url"] = f"{base}/v2/{'nothing' if fault == 'address' else 'enqueue'}"
        return {**given, "secret": secrets.add(name, "wrong-key" if fault == "token" else f"{name}-".ljust(32, "0"))}
    mail = there.strangers_mail if fault == "tls" else there.mail
    settings = {**trust, **(TEMPLATE["email"] if fault == "template" else {})}
    who = {"to": f"{whose}@mail.test", "from": "stack@mail.test", "smarthost": f"127.0.0.1:{mail}"}
    return {**given, **who, "username": "stack", "secret": secrets.add(name, token), "settings": settings}


ALL = [(kind, fault) for kind in TYPES for fault in (*FAULTS, "whole")]


def config(there: OnCall, folder: Path) -> dict[str, Any]:
    """A tree in which a label leads to each receiver, below a route that others have too."""
    given = [receiver(kind, fault, there, Secrets(folder)) for kind, fault in ALL]
    routes: list[dict[str, Any]] = [{"receiver": item["name"], "matchers": [f'team="{item["name"]}"']} for item in given]
    both = {"matchers": ['twin="yes"'], "receiver": "none"}
    routes += [{**both, "routes": [{"receiver": f"twin {n}", "matchers": ["app=~a|b"], "continue": True} for n in (1, 2)]}]
    routes += [{"matchers": ['severity="info"'], "receiver": name} for name in ("never", "late")]
    routes += [{"matchers": ["night=yes"], "receiver": "asleep", "mute_time_intervals": ["always"]}]
    own = [{"name": name, "webhook_configs": [{"url": f"https://127.0.0.1:{there.https}/webhook/{name}"}]} for name in EXTRA]
    return {
        "route": {"receiver": "none", "group_by": ["alertname"], "group_wait": "0s", "routes": [{"routes": routes}]},
        "receivers": [{"name": "none"}, *own, *(receivers.configured(item) for item in given)],
        "time_intervals": [{"name": "always", "time_intervals": [{}]}],
    }


EXTRA = ("twin 1", "twin 2", "never", "late", "asleep")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with on_call.running(tmp_path_factory.mktemp("on-call"), {name_of(*each) for each in ALL}) as found:
        yield found


@pytest.fixture(scope="module")
def written(there: OnCall, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("secrets")
        patch.setattr(receivers, "FILES", str(folder))
        return config(there, folder)


@pytest.fixture(scope="module")
def api(written: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with alertmanager.running(tmp_path_factory.mktemp("am"), written, alertmanager.FEATURE) as found:
        yield found


@pytest.fixture
def look(there: OnCall, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The rows of a verification that names receivers, by these."""
    monkeypatch.setattr(named_receivers, "PAUSE", 0.05)
    monkeypatch.setattr(named_receivers, "RETRIES", 0.2)
    there.got.clear()

    def follow(api: Api, *names: str, timeout: float = 20) -> dict[str, Any]:
        run = Run(api, Target(receivers=list(names), timeout=timeout))
        run.stack.absent, run.stack.namespace = "", "monitoring"
        api.sent.clear()
        return {each.link.removeprefix("receiver "): each for each in named_receivers.look(run)}

    return follow


def firing(api: Api) -> list[Any]:
    """The alerts that Alertmanager still has for firing."""
    return list(yaml.safe_load(answer(f"{api.programs['alertmanager-operated:9093']}/api/v2/alerts")[1]))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_receiver_is_blamed(look: Callable[..., dict[str, Any]], api: Api, there: OnCall, kind: str, fault: str) -> None:
    name, whole = name_of(kind, fault), name_of(kind, "whole")
    found = look(api, name)
    assert [(each, row.status) for each, row in found.items()] == [(name, "failed")]
    cause, words = SAID[fault]
    if (kind, fault) == ("webhook", "template"):
        cause = SAID["address"][0]
    assert cause in found[name].cause and words[kind] in found[name].cause
    assert TOKEN not in found[name].cause and "wrong-token" not in found[name].cause
    assert found[name].seconds < 60 and there.names() == [] and firing(api) == []
    # One of the same integration beside it takes what it gets, and is told apart.
    found = look(api, name, whole)
    assert {each: row.status for each, row in found.items()} == {name: "failed", whole: "ok"}
    assert there.names() == [whole]


def test_all_at_once_each_gets_its_own(look: Callable[..., dict[str, Any]], api: Api, there: OnCall) -> None:
    names = [name_of(kind, "whole") for kind in TYPES]
    found = look(api, *names)
    assert {row.status for row in found.values()} == {"ok"} and sorted(there.names()) == sorted(names)
    # One question sends all of them, and one ends them.
    assert [len(alerts) for _path, alerts in api.sent] == [5, 5] and firing(api) == []


def test_what_is_wrong_before_anything_is_sent(look: Callable[..., dict[str, Any]], api: Api, there: OnCall) -> None:
    found = look(api, "nobody", "none", "twin 1", "late", "asleep")
    assert {name: row.status for name, row in found.items()} == {
        **dict.fromkeys(("nobody", "none", "twin 1", "late"), "failed"),
        "asleep": "skipped",
    }
    assert "no receiver of that name" in found["nobody"].cause and name_of("slack", "whole") in found["nobody"].cause
    assert "drops" in found["none"].cause and "always" in found["asleep"].evidence
    assert "twin 2" in found["twin 1"].cause and "earlier routes" in found["late"].cause
    assert api.sent == [] and there.names() == []


def test_those_that_get_the_same_are_sent_one(look: Callable[..., dict[str, Any]], api: Api) -> None:
    look(api, "twin 1", "twin 2")
    assert len(api.sent[0][1]) == 1


def test_a_receiver_of_an_application_can_be_tried_again_at_once(
    look: Callable[..., dict[str, Any]], written: dict[str, Any], there: OnCall, tmp_path: Path
) -> None:
    """Its route takes the alerts of one namespace and application alone, and would keep those of a group for minutes."""
    name = name_of("webhook", "whole")
    options = {"name": "shop", "namespace": "shop", "receivers": [{"name": name, "type": "webhook", "url": "https://a.test/"}]}
    waits = {"group_wait": "0s", "group_interval": "5m", "repeat_interval": "1h", "labels": {}}
    made = objects.alertmanager_config({**options, **waits}, {})["spec"]["route"]
    own = {"receiver": name, "matchers": ['namespace="shop"', 'app="shop"'], "group_by": made["groupBy"]}
    tree = {"receiver": "none", "group_wait": "0s", "group_by": ["namespace", "alertname"], "routes": [own]}
    with alertmanager.running(tmp_path, {**written, "route": tree}, alertmanager.FEATURE) as api:
        assert [look(api, name, timeout=5)[name].status for _time in range(2)] == ["ok", "ok"]
    assert there.names() == [name, name]


def test_a_silence_is_no_broken_receiver(look: Callable[..., dict[str, Any]], api: Api, there: OnCall) -> None:
    name, address = name_of("slack", "whole"), api.programs["alertmanager-operated:9093"]
    matcher = {"name": "team", "value": name, "isRegex": False}
    times = {"startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z"}
    silence = {"matchers": [matcher], **times, "createdBy": "ann", "comment": "no idea"}
    made = yaml.safe_load(answer(f"{address}/api/v2/silences", "POST", silence)[1])["silenceID"]
    try:
        found = look(api, name, timeout=1)[name]
    finally:
        answer(f"{address}/api/v2/silence/{made}", "DELETE")
    assert found.status == "skipped" and made in found.evidence and there.names() == []


def test_without_a_log_the_counters_still_blame(look: Callable[..., dict[str, Any]], api: Api) -> None:
    name = name_of("slack", "token")
    api.refused["/api/v1/namespaces/monitoring/pods/alertmanager-stack-0/log"] = 403
    try:
        found = look(api, name)[name]
    finally:
        api.refused.clear()
    assert found.status == "failed" and "slack" in found.cause and "log can't be read (403)" in found.cause


def test_an_account_that_may_not_send(look: Callable[..., dict[str, Any]], api: Api, there: OnCall) -> None:
    name = name_of("slack", "whole")
    api.refused["POST"] = 403
    try:
        found = look(api, name, "nobody")
    finally:
        api.refused.clear()
    assert {each: row.status for each, row in found.items()} == {name: "failed", "nobody": "failed"}
    assert "services/proxy" in found[name].cause and there.names() == []


def test_of_several_pods_one_notifies(
    look: Callable[..., dict[str, Any]], written: dict[str, Any], there: OnCall, tmp_path: Path
) -> None:
    names, peers = ("first", "second"), [f"127.0.0.1:{free_port()}" for _ in range(2)]
    for name in names:
        (tmp_path / name).mkdir()
    whole, broken = name_of("teams", "whole"), name_of("teams", "token")
    with (
        alertmanager.running(tmp_path / names[0], written, alertmanager.FEATURE, cluster=(peers[0], "")) as first,
        alertmanager.running(tmp_path / names[1], written, alertmanager.FEATURE, cluster=(peers[1], peers[0])) as second,
    ):
        addresses = [each.programs["alertmanager-operated:9093"] for each in (first, second)]
        pods = {f"alertmanager-stack-{number}:9093": address for number, address in enumerate(addresses)}
        api = Api(first.programs | pods, first.log, pods=2)
        found = look(api, whole, broken, timeout=60)
    assert {name: row.status for name, row in found.items()} == {whole: "ok", broken: "failed"} and there.names() == [whole]
    # To each of them both alerts, and the end of both.
    assert [(path.split("/")[6], len(alerts)) for path, alerts in api.sent] == [(pod, 2) for pod in (*pods, *pods)]


def test_somebodys_alertmanager_counts_by_integration(
    look: Callable[..., dict[str, Any]], written: dict[str, Any], there: OnCall, tmp_path: Path
) -> None:
    bad, good = name_of("webhook", "token"), name_of("webhook", "whole")
    with alertmanager.running(tmp_path, written) as api:
        found = look(api, bad, good)
    assert {name: row.status for name, row in found.items()} == {bad: "failed", good: "ok"}
    assert all(alertmanager.FEATURE in row.evidence for row in found.values()) and there.names() == [good]
    assert "401" in found[bad].cause


def test_a_schedule_names_no_receiver() -> None:
    role = yaml.safe_load((Path(__file__).resolve().parents[3] / "roles/verify/vars/main.yml").read_text())
    assert not {"receivers", "notify"} & set(role["__verify_schedule_target"])
    run = Run(Api({}, Path()), Target())  # type: ignore[arg-type]
    assert named_receivers.look(run) == []
