# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that role fluent_bit makes: against the plugins' own options, and for what its patterns match."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.filter.fluent_bit import fluent_bit
from ansible_collections.flaskops.observability.plugins.module_utils.fluent_bit import config, outputs
from fluent_bit_options import CLOUDWATCH, DEFAULTS, GOOD, HTTP, KMS_KEY, LOKI, WRONG, Options

from tests.collector import load

ROOT = Path(__file__).resolve().parents[3]
SPECS = os.environ.get("FLASKOPS_SPECS")

# What the plugins' own list of 5.1.1 does not have, and why it is right all the same.
NOT_LISTED = {
    ("outputs", "workers"): "a key of every output, which the engine reads (src/flb_output.c)",
    ("outputs", "storage.total_limit_size"): "a key of every output, which the engine reads (src/flb_output.c)",
    ("outputs", "port"): "a key of every output, which the engine reads; the AWS plugins list no network keys",
    ("outputs", "tls.verify"): "a key of every output that can TLS; the AWS plugins list no TLS keys",
    ("outputs", "tls.ca_file"): "a key of every output that can TLS; the AWS plugins list no TLS keys",
    ("inputs", "processors"): "a section of every input in a YAML configuration, checked as a plugin of its own",
}
NUMBER = re.compile(r"-?[0-9]+$")
SIZE = re.compile(r"[0-9]+[kKMG]?B?$")
TIME = re.compile(r"[0-9]+[smhd]?$")


def made(options: Options) -> dict[str, Any]:
    plan = fluent_bit({**DEFAULTS, **options})
    assert plan["problems"] == []
    return plan


def sent(configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of the lines; the counters of the first agent go to an output of their own."""
    return [entry for entry in configuration["pipeline"]["outputs"] if entry["name"] != "prometheus_exporter"]


def one(options: Options) -> dict[str, Any]:
    """The configuration of the only output."""
    (agent,) = made(options)["agents"]
    found: dict[str, Any] = agent["config"]
    return found


def entries(configuration: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for section, plugins in configuration["pipeline"].items():
        for plugin in plugins:
            yield section, plugin
            # A filter that runs as a processor is listed among the filters.
            yield from (("filters", processor) for processor in plugin.get("processors", {}).get("logs", []))


def fits(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    pattern = {"integer": NUMBER, "size": SIZE, "time": TIME}.get(kind)
    return pattern is None or pattern.match(str(value)) is not None


def complaints(configuration: dict[str, Any], listed: dict[str, Any]) -> list[str]:
    """What the plugins' own list of options does not know, or knows as another type."""
    found = []
    for section, plugin in entries(configuration):
        candidates = [entry for entry in listed[section] if entry["name"] == plugin["name"]]
        if not candidates:
            found.append(f"{section} {plugin['name']}: no such plugin")
            continue
        groups = candidates[0]["properties"].values()
        types = {option["name"].lower(): option["type"] for group in groups for option in group}
        for key, value in plugin.items():
            values = value if isinstance(value, list) else [value]
            if key == "name" or (section, key) in NOT_LISTED:
                continue
            if key not in types:
                found.append(f"{section} {plugin['name']}: {key} is not known")
            elif not all(fits(item, types[key]) for item in values):
                found.append(f"{section} {plugin['name']}: {key} is {value!r} and no {types[key]}")
    return found


@pytest.fixture(scope="session")
def listed() -> dict[str, Any]:
    """The options of every plugin of Fluent Bit 5.1.1, as `fluent-bit -J` prints them."""
    if not SPECS:
        pytest.skip("FLASKOPS_SPECS is not set: the plugins' own list of options is not at hand")
    found: dict[str, Any] = json.loads((Path(SPECS) / "fluent-bit-5.1.1.options.json").read_text())
    return found


@pytest.mark.parametrize("name", GOOD)
def test_plugins_know_every_key(listed: dict[str, Any], name: str) -> None:
    for agent in made(GOOD[name])["agents"]:
        assert complaints(agent["config"], listed) == []


def test_an_unknown_key_would_be_found(listed: dict[str, Any]) -> None:
    options = {"host": "loki", "type": "loki", "options": {"label": "a", "net.keepalive": "perhaps"}}
    configuration = one({"outputs": [options]})
    configuration["pipeline"]["filters"].append({"name": "lua", "match": "*"})
    assert complaints(configuration, listed) == [
        "filters lua: no such plugin",
        "outputs loki: label is not known",
        "outputs loki: net.keepalive is 'perhaps' and no boolean",
    ]


def test_there_are_enough_combinations() -> None:
    assert len(GOOD) >= 12
    assert len(WRONG) >= 15
    assert {o["type"] for case in GOOD.values() for o in case["outputs"]} == set(outputs.SPECS)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_refused(name: str) -> None:
    options, message = WRONG[name]
    plan = fluent_bit({**DEFAULTS, **options})
    assert set(plan) == {"problems"}, "a configuration was made of wrong options"
    first = plan["problems"][0]
    assert message in first
    assert first.endswith(".") and "\n" not in first and "CANARY" not in first


@pytest.mark.parametrize("name", GOOD)
def test_configuration_is_yaml(name: str) -> None:
    for agent in made(GOOD[name])["agents"]:
        assert yaml.safe_load(yaml.safe_dump(agent["config"], sort_keys=False)) == agent["config"]


@pytest.mark.parametrize("name", GOOD)
def test_no_input_or_output_loses_lines(name: str) -> None:
    """The defaults of the plugins that lose lines are all replaced (each of these was measured or read in the source)."""
    for agent in made(GOOD[name])["agents"]:
        configuration = agent["config"]
        assert configuration["service"]["storage.path"] and configuration["service"]["storage.keep.rejected"] is True
        databases = [entry["db"] for entry in configuration["pipeline"]["inputs"]]
        assert len(set(databases)) == len(databases)
        for entry in configuration["pipeline"]["inputs"]:
            assert entry["storage.type"] == "filesystem" and entry["read_from_head"] is True
        (entry,) = sent(configuration)
        assert entry["retry_limit"] == "no_limits" or entry["retry_limit"] > 1
        assert entry["storage.total_limit_size"]


@pytest.mark.parametrize(("policy", "pauses"), [("drop_oldest", False), ("pause", True)])
def test_reading_pauses_where_the_policy_says_so(policy: str, pauses: bool) -> None:
    for agent in made({"outputs": [LOKI], "buffer_policy": policy})["agents"]:
        for entry in agent["config"]["pipeline"]["inputs"]:
            assert entry["storage.pause_on_chunks_overlimit"] is pauses


def test_every_output_has_a_process_of_its_own() -> None:
    """Outputs of one process share its chunks, and one backend that is away soon holds all of them."""
    options = {**GOOD["all at once"], "metrics_port": 3000}
    agents = made(options)["agents"]
    assert [[entry["alias"] for entry in sent(agent["config"])] for agent in agents] == [
        [output.get("name", output["type"])] for output in options["outputs"]
    ]
    for part in ("name", "file", "port", "port_name"):
        assert len({agent[part] for agent in agents}) == len(agents), part
    assert [agent["config"]["service"]["http_port"] for agent in agents] == [agent["port"] for agent in agents]
    assert agents[0]["port"] == 3000 and agents[-1]["port"] == 3000 + len(agents) - 1
    assert all(re.fullmatch("[a-z][-a-z0-9]*[a-z0-9]", agent["name"]) for agent in agents)


def test_a_container_has_the_secrets_of_its_own_output_alone() -> None:
    outputs = [{**LOKI, "username": "u", "password_secret": "loki"}, CLOUDWATCH, {**HTTP, "bearer_token_secret": "http"}]
    secrets = ["loki", "http", "aws-access-key-id", "aws-secret-access-key"]
    plan = made({"outputs": outputs, "secret_keys": secrets, "aws_static_keys": True})
    found = {agent["name"]: {entry["name"] for entry in agent["environment"]} - {"NODE_NAME"} for agent in plan["agents"]}
    assert found == {
        "loki": {"SECRET_LOKI"},
        "cloudwatch-logs": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
        "http": {"SECRET_HTTP"},
    }


def test_every_backend_gets_the_label_contract() -> None:
    agents = made(GOOD["all at once"])["agents"]
    rendered = {entry["alias"]: entry for agent in agents for entry in sent(agent["config"])}
    labels = dict(pair.split("=") for pair in rendered["loki"]["labels"].split(","))
    assert labels == {name: f"${name}" for name in ("namespace", "app", "container", "cluster", "level")}
    metadata = dict(pair.split("=") for pair in rendered["loki"]["structured_metadata"].split(","))
    assert {"pod", "request_id"} <= set(metadata)
    # Only the message stays in the line; whatever the filters add must be taken out of it.
    assert set(rendered["loki"]["remove_keys"].split(",")) == {*labels, *metadata, "data"}
    differ = {"alias", "host", "port"}
    assert {k: v for k, v in rendered["victoria_logs"].items() if k not in differ} == {
        **{k: v for k, v in rendered["loki"].items() if k not in differ},
        "uri": "/insert/loki/api/v1/push?disable_message_parsing=1",
    }
    for alias in ("cloudwatch_logs", "es", "opensearch", "http"):
        assert not {"log_key", "allowlist_key"} & set(rendered[alias]), f"{alias} sends less than the whole record"


def test_lines_are_counted_once_and_by_labels_that_do_not_grow() -> None:
    """Each agent reads all lines, and Fluent Bit never forgets a series."""
    first, *others = made(GOOD["all at once"])["agents"]
    counting = [entry for entry in first["config"]["pipeline"]["filters"] if entry["name"] == "log_to_metrics"]
    assert [(entry["metric_name"], entry["label_field"]) for entry in counting] == [
        ("lines_total", ["namespace", "app", "level"]),
        ("tracebacks_total", ["namespace", "app"]),
    ]
    assert all(entry["flush_interval_sec"] == 1 for entry in counting)
    pattern = python_regex(counting[1]["regex"].removeprefix("message "))
    assert pattern.search('{"traceback": "Traceback (most recent call last):\\n"}') and not pattern.search(
        "Traceback of a parcel"
    )
    (exporter,) = [entry for entry in first["config"]["pipeline"]["outputs"] if entry["name"] == "prometheus_exporter"]
    assert exporter["match"] == counting[0]["tag"] and exporter["port"] == first["counters_port"]
    assert first["counters_port"] not in [agent["port"] for agent in (first, *others)]
    for agent in others:
        assert agent["counters_port"] == 0 and "log_to_metrics" not in str(agent["config"])


def test_credentials_are_references() -> None:
    (agent,) = made(GOOD["loki with a tenant, TLS and a password"])["agents"]
    assert agent["config"]["pipeline"]["outputs"][0]["http_passwd"] == "${SECRET_LOKI_PASSWORD}"
    reference = {"name": "fluent-bit-credentials", "key": "loki-password"}
    assert {"name": "SECRET_LOKI_PASSWORD", "valueFrom": {"secretKeyRef": reference}} in agent["environment"]
    assert agent["has_authority"] and not agent["secret_files"]
    (agent,) = made(GOOD["loki with a client certificate"])["agents"]
    assert agent["secret_files"] == ["tls.crt", "tls.key"]
    (agent,) = made(GOOD["cloudwatch, a group for each namespace, static keys"])["agents"]
    assert {entry["name"] for entry in agent["environment"]} == {"NODE_NAME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_the_plan_names_the_tenant_for_verify_and_no_credential() -> None:
    given = GOOD["loki with a tenant, TLS and a password"]
    plan = made(given)
    (entry,) = plan["backends"]
    assert entry["tenant"] == given["outputs"][0]["tenant"] and entry["login"] is True
    assert not {"username", "password_secret"} & set(entry)


def test_role_describes_the_options_of_every_output() -> None:
    specs = yaml.safe_load((ROOT / "roles/fluent_bit/meta/argument_specs.yml").read_text())
    described = specs["argument_specs"]["main"]["options"]["fluent_bit_outputs"]["options"]
    assert set(described) == {name for spec in outputs.SPECS.values() for name in spec}
    for kind, spec in outputs.SPECS.items():
        for name, option in spec.items():
            assert described[name]["type"] == option["type"], f"{kind} {name}"
            if "choices" in option:
                assert described[name]["choices"] == option["choices"]
    assert set(described["type"]["choices"]) == set(outputs.SPECS)


def python_regex(pattern: str) -> re.Pattern[str]:
    """A pattern of Fluent Bit (Ruby's syntax) for Python; ours use nothing else that differs."""
    return re.compile(pattern.replace("(?<", "(?P<").replace("(?P<!", "(?<!").replace("(?P<=", "(?<="))


UID = "ad3c8fef-8d59-4699-9429-fff0a3e5a50c"
FILES = [
    (f"/var/log/pods/shop_flask-app-77976997c-lx4lx_{UID}/flask-app/0.log", ("shop", "flask-app-77976997c-lx4lx", "flask-app")),
    (f"/var/log/pods/shop_web-0_{UID}/web/12.log.20260131-120000", ("shop", "web-0", "web")),
    ("/var/log/pods/kube-system_etcd-node-1_0f1e2d3c4b5a69788796a5b4c3d2e1f0/etcd/3.log", ("kube-system", "etcd-node-1", "etcd")),
    (f"/var/log/pods/a-b_my.pod.name_{UID}/c-1/0.log", ("a-b", "my.pod.name", "c-1")),
]


@pytest.mark.parametrize(("path", "names"), FILES)
def test_pod_of_a_file_is_told(path: str, names: tuple[str, str, str]) -> None:
    """Input and filter agree: what the input puts into the tag, the kubernetes filter finds in it again."""
    configuration = one({"outputs": [LOKI]})
    tail = configuration["pipeline"]["inputs"][0]
    kubernetes = configuration["pipeline"]["filters"][1]
    assert kubernetes["name"] == "kubernetes"
    assert fnmatch.fnmatch(path, tail["path"])
    found = python_regex(tail["tag_regex"]).search(path)
    assert found
    tag = re.sub(r"<(\w+)>", lambda group: found[group[1]], tail["tag"])
    assert tag.startswith(kubernetes["kube_tag_prefix"])
    (parser,) = [entry for entry in configuration["parsers"] if entry["name"] == kubernetes["regex_parser"]]
    again = python_regex(parser["regex"]).search(tag.removeprefix(kubernetes["kube_tag_prefix"]))
    assert again and again.group("namespace_name", "pod_name", "container_name") == names
    (parser,) = [
        entry for entry in configuration["parsers"] if entry["name"] == configuration["pipeline"]["filters"][0]["parser"]
    ]
    fields = python_regex(parser["regex"]).search(path)
    assert fields and fields.group("namespace", "pod", "container") == names


def test_cloudwatch_is_not_told_to_use_tls() -> None:
    """It always does; Fluent Bit ends with "does not support TLS" where the key is set."""
    (entry,) = sent(one(GOOD["cloudwatch"]))
    assert "tls" not in entry and entry["tls.verify"] is True


def test_a_group_with_a_key_is_made_before_the_shipper_runs() -> None:
    plan = made(GOOD["cloudwatch, a group with a KMS key, another account"])
    (group,) = plan["log_groups"]
    assert group == {"name": "/kubernetes/staging-1", "region": "eu-central-1", "kms_key": KMS_KEY, "retention_days": 30}
    (entry,) = sent(plan["agents"][0]["config"])
    assert entry["auto_create_group"] is False and "log_retention_days" not in entry
    assert made(GOOD["cloudwatch"])["log_groups"] == []


def test_grafana_reads_what_is_shipped_to_cloudwatch() -> None:
    (source,) = made(GOOD["cloudwatch, a group for each namespace, static keys"])["datasources"]
    assert source["jsonData"] == {"authType": "default", "defaultRegion": "eu-central-1", "defaultLogGroups": ["/shop"]}
    assert source["uid"] == "cloudwatch" and made(GOOD["loki"])["datasources"] == []


def excluded(options: Options, path: str) -> bool:
    patterns = one({"outputs": [LOKI], **options})["pipeline"]["inputs"][0]["exclude_path"].split(",")
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def test_what_is_not_read() -> None:
    folder = f"/var/log/pods/logging_fluent-bit-5r52s_{UID}"
    assert excluded({}, f"{folder}/fluent-bit/0.log"), "it would ship its own lines, for ever"
    assert not excluded({}, f"/var/log/pods/logging_fluent-bit-canary-5r52s_{UID}/canary/0.log")
    assert not excluded({}, f"/var/log/pods/shop_fluent-bit-5r52s_{UID}/fluent-bit/0.log")
    for name in ("0.log.20260131-120000.gz", "0.log.20260131-120000.tmp"):
        assert excluded({}, f"/var/log/pods/shop_web-0_{UID}/web/{name}")
    assert not excluded({}, f"/var/log/pods/shop_web-0_{UID}/web/0.log.20260131-120000")
    options = {"excluded_namespaces": ["noise"]}
    assert excluded(options, f"/var/log/pods/noise_web-0_{UID}/web/0.log")
    assert not excluded(options, f"/var/log/pods/noise-2_web-0_{UID}/web/0.log")


def test_output_of_chosen_namespaces() -> None:
    entry = made(GOOD["all at once"])["agents"][-1]["config"]["pipeline"]["outputs"][0]
    pattern = python_regex(entry["match_regex"])
    assert pattern.search("kube.a_web-0_web") and not pattern.search("kube.aa_web-0_web") and "match" not in entry


def level(line: str) -> str:
    """The level that the filters give a line, in their order."""
    configuration = one({"outputs": [LOKI]})
    regexes = {entry["name"]: entry["regex"] for entry in configuration["parsers"]}
    found: str | None = None
    for entry in configuration["pipeline"]["filters"]:
        if entry["name"] == "parser" and isinstance(entry["parser"], list):
            matches = [python_regex(regexes[name]).search(line) for name in entry["parser"]]
            found = next((match["level"] for match in matches if match), None)
        if entry["name"] != "modify" or "condition" not in entry:
            continue
        conditions = entry["condition"] if isinstance(entry["condition"], list) else [entry["condition"]]
        if all(holds(condition, {"log": line, "level": found}) for condition in conditions):
            found = entry["set"].split()[1]
    return found or "unknown"


def holds(condition: str, record: dict[str, str | None]) -> bool:
    name, key, *pattern = condition.split(" ", 2)
    value = record[key]
    if name == "Key_does_not_exist":
        return value is None
    matches = value is not None and re.search(pattern[0], value) is not None
    return matches if name == "Key_value_matches" else value is not None and not matches


LEVELS = [
    ('{"time": "t", "level": "INFO", "message": "GET / \\"level\\": \\"x\\"", "request_id": "r"}', "info"),
    ('{"message": "x", "levelname": "WARNING"}', "warning"),
    ('{"severity":"fatal"}', "critical"),
    ('{"level": "shouting", "message": "ERROR"}', "unknown"),
    ('{"message": "no level, and an ERROR in the text"}', "unknown"),
    ("[2026-11-23 06:24:10 +0000] [7] [INFO] Starting gunicorn 23.0.0", "info"),
    ("[2026-11-23 06:24:10,123] ERROR in app: Exception on / [GET]", "error"),
    ("WARNING:root:disk is filling", "warning"),
    ("I1123 06:24:10.123456       1 server.go:1] started", "info"),
    ("E1123 06:24:10.123456       1 server.go:1] failed", "error"),
    ('time="2026-11-23T06:24:10Z" level=warn msg="slow"', "warning"),
    ("Traceback (most recent call last):\n  File ...", "error"),
    ("10.0.0.1 - - [23/Nov/2026:06:24:10 +0000] GET /INFORMATION 200", "unknown"),
    ("n=17", "unknown"),
    ("", "unknown"),
]


@pytest.mark.parametrize(("line", "expected"), LEVELS)
def test_level_of_a_line(line: str, expected: str) -> None:
    assert level(line) == expected


def test_the_embedded_collector_gives_the_same_labels() -> None:
    """Both shippers write one label contract, so a line has one level, whichever of them carries it."""
    collector = load()
    assert {line: collector.level(line) for line, _level in LEVELS} == dict(LEVELS)


def test_request_id_of_a_line() -> None:
    regexes = {entry["name"]: entry["regex"] for entry in one({"outputs": [LOKI]})["parsers"]}
    pattern = python_regex(regexes[config.REQUEST_ID_PARSER])
    found = pattern.search('{"level": "INFO", "request_id": "4f1c", "route": "/"}')
    assert found and found["request_id"] == "4f1c"
    assert not pattern.search('{"level": "INFO", "request_id": null}')


def records(lines: list[str]) -> list[str]:
    """Lines joined by the rules of the multi-line parser, as the engine applies them (src/multiline/flb_ml_rule.c)."""
    (parser,) = one({"outputs": [LOKI]})["multiline_parsers"]
    rules = [(rule["state"], re.compile(rule["regex"][1:-1]), rule["next_state"]) for rule in parser["rules"]]
    found: list[list[str]] = []
    state = ""
    for line in lines:
        nexts = [following for name, pattern, following in rules if name == state and pattern.search(line)]
        if nexts:
            found[-1].append(line)
            state = nexts[0]
            continue
        starts = [following for name, pattern, following in rules if name == "start_state" and pattern.search(line)]
        found.append([line])
        state = starts[0] if starts else ""
    return ["\n".join(record) for record in found]


PROGRAMS = {
    "plain": "def f():\n    return {}['a']\nf()",
    "markers": "(1 + 2 / 0) + len(str(3) * 4)",
    "chained": "try:\n    1/0\nexcept Exception as e:\n    raise ValueError('bad') from e",
    "during": "try:\n    1/0\nexcept Exception:\n    {}['a']",
    "own class": "class Bad(Exception): pass\nraise Bad",
    "recursion": "def f(): f()\nf()",
    "group": "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_traceback_is_one_record(tmp_path: Path, name: str) -> None:
    (tmp_path / "app.py").write_text(PROGRAMS[name] + "\n")
    done = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    traceback = done.stderr.splitlines()
    assert len(traceback) > 2
    found = records(["before", *traceback, "after", "n=1", "n=2"])
    assert found == ["before", "\n".join(traceback), "after", "n=1", "n=2"]


def test_the_test_cluster_has_the_image_of_the_role() -> None:
    """Unless FLUENT_BIT_IMAGE names another, as for an archive of another version."""
    image = yaml.safe_load((ROOT / "roles/fluent_bit/defaults/main.yml").read_text())["fluent_bit_image"]
    hosts = yaml.safe_load((ROOT / "molecule/default/inventory.yml").read_text())["local"]["hosts"]
    assert f"default('{image}', true)" in hosts["flaskops-test"]["fluent_bit_image"]
