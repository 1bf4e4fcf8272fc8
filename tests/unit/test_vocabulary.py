# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A word means the same in the options of all roles, and what is written for one role works in another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.flaskops.observability.plugins.filter.alert_rules import alert_rules
from ansible_collections.flaskops.observability.plugins.filter.receivers import receivers as configured
from ansible_collections.flaskops.observability.plugins.module_utils.app import description
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import receivers, rules
from ansible_collections.flaskops.observability.plugins.modules import app_monitoring, flask_apps

from tests.harness import ROOT

TEXT, NUMBER, YES, MAPPING = ("str", None, None), ("int", None, None), ("bool", None, None), ("dict", None, None)
TEXTS, MAPPINGS, ANY = ("list", "str", None), ("list", "dict", None), ("raw", None, None)
STORES = ("auto", "always", "never")
# What more than one role has: the type, the elements of a list, and the choices.
WORDS: dict[str, tuple[str, str | None, tuple[str, ...] | None]] = {
    # What is to be, where and under which name.
    "state": ("str", None, ("present", "absent")),
    "name": TEXT,
    "namespace": TEXT,
    "create_namespace": YES,
    "adopt": YES,
    "remove_data": YES,
    "remove_crds": YES,
    # The cluster.
    "kubeconfig": TEXT,
    "context": TEXT,
    "wait": YES,
    "wait_timeout": NUMBER,
    "local_cluster": TEXT,  # the local cluster into whose node images are put
    "cluster_label": TEXT,  # what a cluster is called in labels and reports
    "engine": ("str", None, ("auto", "podman", "docker")),
    "binaries": ("str", None, ("auto", "download", "build")),
    # A release.
    "source": ("str", None, ("auto", "upstream", "embedded")),  # where a chart comes from
    "release_name": TEXT,
    "chart_ref": TEXT,
    "chart_version": TEXT,
    "values": MAPPING,
    # Workloads.
    "image": TEXT,
    "image_pull_policy": ("str", None, ("IfNotPresent", "Always", "Never")),
    "image_pull_secrets": TEXTS,
    "base_image": TEXT,
    "replicas": NUMBER,
    "resources": MAPPING,
    "labels": MAPPING,
    "pod_labels": MAPPING,
    "pod_annotations": MAPPING,
    "pod_overrides": MAPPING,
    "service_account_annotations": MAPPING,
    # Storage.
    "storage_size": TEXT,
    "storage_class": TEXT,
    "retention": TEXT,
    # An application.
    "port": NUMBER,
    "metrics_port": NUMBER,
    "path": TEXT,
    "metrics_path": TEXT,
    "metrics_prefix": TEXT,
    "health_path": TEXT,
    "health_port": NUMBER,
    "environment": MAPPING,  # of a process
    "environment_name": TEXT,  # that of a cluster, such as staging
    "external_checks_environment_name": TEXT,
    "external_checks": MAPPINGS,
    "log_check": YES,
    "hosts": MAPPINGS,  # by which users reach it, each with name, path and tls_secret
    "workers": MAPPINGS,  # each with its name
    "report": TEXT,
    # Monitoring.
    "monitoring": ("str", None, STORES),
    "monitoring_labels": ANY,  # auto, or a mapping
    "default_rules": YES,
    "alerts": MAPPING,  # by the alert's name some of threshold, window, for, severity and enabled
    "receivers": MAPPINGS,
    "dead_mans_switch": MAPPING,  # who notices that Watchdog no longer arrives
    "grafana_namespace": TEXT,
    "scrape_interval": TEXT,
    "evaluation_interval": TEXT,
    "group_wait": TEXT,
    "group_interval": TEXT,
    "repeat_interval": TEXT,
    # Whole Secrets.
    "existing_secret": TEXT,
    "tls_secret": TEXT,
}
# Where a role has a word in another form, and why.
EXCEPTIONS = {
    "flask_image_source": ("str", None, None),  # the folder of the sources, which anybody calls so
    "flask_image_engine": ("str", None, ("auto", "podman", "buildah", "docker")),  # buildah builds, and runs no cluster
    "flask_app_replicas": ANY,  # null leaves the number to an autoscaler
    "local_cluster_workers": ("int", None, (0, 1, 2, 3, 4)),  # nodes, as kind calls them
    "drill_state": ("str", None, ("run", "restored")),  # a drill is nothing that stays
    "verify_receivers": TEXTS,  # names of those that are there
    "loki_source": ("str", None, ("auto", "upstream")),  # this collection brings no chart of Loki
}
# Words that meant several things.
OLD = ("cluster", "storage", "dashboards_namespace")


def options_of(role: str) -> dict[str, dict[str, Any]]:
    found = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]
    return {name: option for entry in found.values() for name, option in entry["options"].items()}


SPECS = {path.name: options_of(path.name) for path in sorted((ROOT / "roles").iterdir())}
ALL = [(role, name, option) for role, options in SPECS.items() for name, option in options.items()]


def form(option: dict[str, Any]) -> tuple[Any, ...]:
    return option["type"], option.get("elements"), tuple(option["choices"]) if "choices" in option else None


def strange(specs: dict[str, dict[str, dict[str, Any]]]) -> Iterator[str]:
    """The options that do not fit the table."""
    users = defaultdict(list)
    for role, options in specs.items():
        for name, option in options.items():
            word = name.removeprefix(f"{role}_")
            users[word].append(role)
            wanted = EXCEPTIONS.get(name) or WORDS.get(word)
            if wanted and form(option) != wanted:
                yield f"{name} is {form(option)}, and {word} is {wanted}"
            if word in OLD or (word.endswith("_cluster") and not word.endswith("local_cluster")):
                yield f"{name}: use local_cluster, cluster_label, storage_size, storage_type or grafana_namespace"
            if word.endswith("_secret") and option["type"] != "str":
                yield f"{name} names a Secret, and is no text"
    yield from (
        f"{word} of {' and '.join(roles)} is in no table" for word, roles in users.items() if len(roles) > 1 and word not in WORDS
    )


def test_a_word_means_one_thing() -> None:
    assert list(strange(SPECS)) == []


@pytest.mark.parametrize(
    ("role", "word", "option"),
    [
        ("loki", "alerts", {"type": "bool"}),
        ("loki", "cluster", {"type": "str"}),
        ("victoria_logs", "image_pull_secrets", {"type": "list", "elements": "dict"}),
        ("loki", "multiline_parsers", {"type": "str"}),  # fluent_bit has it
        ("loki", "state", {"type": "str", "choices": ["present", "absent", "gone"]}),
        ("loki", "tls_secret", {"type": "dict"}),
    ],
)
def test_a_word_outside_of_the_table_is_found(role: str, word: str, option: dict[str, Any]) -> None:
    specs = {**SPECS, role: {**SPECS[role], f"{role}_{word}": option}}
    assert any(word in found for found in strange(specs))


def test_every_exception_is_one() -> None:
    found = {name: form(option) for _role, name, option in ALL if name in EXCEPTIONS}
    assert found == EXCEPTIONS


TOLD = [
    {"name": "on-call", "type": "pagerduty", "secret": {"name": "pager", "key": "routing"}, "severities": ["critical"]},
    {"name": "chat", "type": "slack", "secret": {"name": "chat", "key": "url"}, "channel": "#a", "send_resolved": False},
    {"name": "hook", "type": "webhook", "url": "http://a.test/", "settings": {"max_alerts": 3}},
    {"name": "mail", "type": "email", "to": "a@x", "from": "b@x", "smarthost": "m:25", "username": "u"},
    {"name": "nobody", "type": "none"},
]


def spec_of(role: str, word: str) -> dict[str, Any]:
    """The option of a role as it is validated."""

    def plain(options: dict[str, Any]) -> dict[str, Any]:
        kept = ("type", "elements", "choices", "required")
        return {
            name: {key: option[key] for key in kept if key in option}
            | ({"options": plain(inner)} if (inner := option.get("options") or option.get("suboptions")) else {})
            for name, option in options.items()
        }

    return plain({word: SPECS[role][f"{role}_{word}"]})


def documented(module: Any, *path: str) -> dict[str, Any]:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    for name in path:
        options = options[name]["suboptions"]
    found: dict[str, Any] = description.spec_of(yaml.safe_dump({"options": {"apps": {"suboptions": options}}}))["receivers"]
    return found


def without(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec without what is only about logs."""
    return {
        name: {key: without(value) if key == "options" else value for key, value in option.items() if key != "no_log"}
        for name, option in spec.items()
    }


RECEIVERS = {
    "kube_prometheus_stack": spec_of("kube_prometheus_stack", "receivers")["receivers"],
    "app_monitoring": spec_of("app_monitoring", "receivers")["receivers"],
    "flask_apps": documented(flask_apps, "apps"),
    "the module": documented(app_monitoring),
}


@pytest.mark.parametrize("place", RECEIVERS)
def test_receivers_of_one_text_work_everywhere(place: str) -> None:
    assert RECEIVERS[place]["options"] == without(receivers.SPEC)
    checked = ArgumentSpecValidator({"receivers": {key: RECEIVERS[place][key] for key in ("type", "elements", "options")}})
    assert checked.validate({"receivers": TOLD}).error_messages == []
    for wrong in ({"secret": "pager"}, {"secret": {"name": "pager"}}, {"severities": ["loud"]}):
        assert checked.validate({"receivers": [{**TOLD[0], **wrong}]}).error_messages


def test_receivers_are_told_by_both_alike() -> None:
    found = configured(TOLD)
    assert found["problem"] == "" == receivers.problem(TOLD, operated=True)
    assert [item["name"] for item in found["configs"]] == [receivers.operated(item)["name"] for item in TOLD]
    assert [key["key"] for key in found["keys"]] == ["routing", "url"]
    assert (found["default"], found["beyond"]) == ("chat", ['severity!~"critical"'])


SHAPED = [role for role, options in SPECS.items() if f"{role}_alerts" in options]


def test_all_roles_with_alerts_are_known() -> None:
    assert SHAPED == ["app_monitoring", "fluent_bit", "loki", "victoria_logs"]


@pytest.mark.parametrize("role", SHAPED)
def test_settings_of_alerts_have_one_shape(role: str) -> None:
    """Of each alert the same options have the same effect, and what it does not have is refused with its name."""
    assert ArgumentSpecValidator(spec_of(role, "alerts")).validate({"alerts": {"A": {"for": "1m"}}}).error_messages == []

    def made(alerts: dict[str, Any]) -> dict[str, dict[str, Any]]:
        groups = rules.rule_groups({"alerts": alerts}) if role == "app_monitoring" else rules.role_groups(role, alerts)
        return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}

    first, gone = [name for name, rule in made({}).items() if "{{" not in rule["labels"]["severity"]][:2]
    found = made({first: {"for": "7m", "severity": "info"}, gone: {"enabled": False}})
    assert (found[first]["for"], found[first]["labels"]["severity"]) == ("7m", "info") and gone not in found
    for name, rule in made({}).items():
        for key, value in (("threshold", 0.25), ("window", "17m")):
            if key in rule["annotations"]:
                changed = made({name: {key: value}})[name]
                assert changed["annotations"][key] == str(value) and str(value) in changed["expr"]
    for wrong, word in (({"Nobody": {}}, "Nobody"), ({first: {"colour": "red"}}, "colour"), ({first: {"for": "soon"}}, "for")):
        with pytest.raises(ValueError, match=word):
            made(wrong)
    if role != "app_monitoring":
        assert "Nobody" in alert_rules({"Nobody": {}}, role)["problem"]


def references(options: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, option in options.items():
        if name == "secret":
            yield f"{path}{name}", option
        yield from references(option.get("options") or {}, f"{path}{name}.")


@pytest.mark.parametrize("role", SPECS)
def test_a_value_in_a_secret_is_named_by_name_and_key(role: str) -> None:
    for path, option in references(SPECS[role]):
        assert (option["type"], sorted(option["options"])) == ("dict", ["key", "name"]), path
        assert (
            ArgumentSpecValidator({"secret": {"type": "dict", "options": without_texts(option["options"])}})
            .validate({"secret": {"name": "a", "key": "b"}})
            .error_messages
            == []
        )


def without_texts(options: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: option[key] for key in ("type", "required") if key in option} for name, option in options.items()}
