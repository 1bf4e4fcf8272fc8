# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the options of role fluent_bit, before anything is changed. Private to this collection.

`fluent-bit --dry-run` accepts most of these mistakes: it knows the names of plugins and keys, not what belongs together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from . import config, outputs

NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
SHORT_NAME = re.compile(r"^[a-z][-a-z0-9]{0,30}$")
CLUSTER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
OUTPUT_NAME = re.compile(r"^[a-z]([-_a-z0-9]{0,29}[a-z0-9])?$")
SECRET_KEY = re.compile(r"^[A-Za-z0-9][-._A-Za-z0-9]*$")
SIZE = re.compile(r"^[1-9][0-9]*[KMG]$")
HOST = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$|^\[?[0-9A-Fa-f:]+\]?$")
REGION = re.compile(r"^[a-z]{2}(-[a-z]+)+-[0-9]$")
ROLE_ARN = re.compile(r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+$")
KMS_KEY = re.compile(r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/\S+$")
LOG_GROUP = re.compile(r"^[-._/#A-Za-z0-9]{1,512}$")
LOG_STREAM = re.compile(r"^[^:*$]{0,128}$")
INDEX = re.compile(r"^[a-z0-9][-a-z0-9._]*$")
CERTIFICATE = "-----BEGIN CERTIFICATE-----"
# What PutRetentionPolicy takes; 0 keeps for ever.
RETENTION = [0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
AWS_KEYS = ["aws-access-key-id", "aws-secret-access-key"]
# Keys of plugins whose value is a secret, and would stand in the ConfigMap.
SECRET_OPTIONS = re.compile(r"passw|token|api_?key|secret|cloud_auth|credential|^header$|authorization", re.IGNORECASE)
# A plugin's key: the typed option that sets it.
TYPED_ELSEWHERE = {
    "match": "namespaces",
    "match_regex": "namespaces",
    "alias": "name",
    "retry_limit": "retry_limit",
    "storage.total_limit_size": "buffer_limit",
    "tls.verify": "tls_verify",
    "tls.ca_file": "tls_ca",
    "http_user": "username",
}
OLDEST = (5, 0, 6)  # misses no events of an overflown inotify queue
OLDEST_SEARCH = (5, 1, 3)  # retries the items of a bulk that were refused, instead of losing them


def version_of(image: str) -> tuple[int, ...] | None:
    """Return the version in an image's tag, or None where the tag is none."""
    found = re.search(r":v?([0-9]+)\.([0-9]+)\.([0-9]+)(?:[-@].*)?$", image)
    return tuple(int(part) for part in found.groups()) if found else None


def _role(options: dict[str, Any]) -> Iterator[str]:
    if not CLUSTER.match(cluster := options["cluster_label"]):
        yield f"fluent_bit_cluster_label is '{cluster}': use at most 63 letters, digits, dots, dashes and underscores."
    for name in ("buffer_limit", "rejected_limit"):
        if not SIZE.match(str(options[name])):
            yield f"fluent_bit_{name} is '{options[name]}': write a size like 500M or 2G."
    path = options["buffer_path"]
    if not path.startswith("/") or path.rstrip("/") in ("", "/var", "/var/log", "/var/lib", "/etc", "/usr", "/root", "/tmp"):
        yield f"fluent_bit_buffer_path is '{path}': name a folder of its own on the nodes, like /var/lib/fluent-bit."
    last = int(options["metrics_port"]) + max(1, len(options["outputs"]))
    if not 0 < int(options["metrics_port"]) <= last < 65536:
        yield f"fluent_bit_metrics_port is {options['metrics_port']}: use 1 to 65535, with one above it for each output."
    for name in options["excluded_namespaces"]:
        if not NAME.match(name):
            yield f"fluent_bit_excluded_namespaces has '{name}', which is no namespace: use lower-case letters, digits, dashes."
    version = version_of(options["image"])
    if version and version < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        yield f"fluent_bit_image is {options['image']}, which can miss lines of busy logs: use version {wanted} or newer."
    if not options["outputs"]:
        yield "fluent_bit_outputs is empty: name at least one backend, for example {type: loki, host: loki}."


def _parsers(options: dict[str, Any]) -> Iterator[str]:
    seen: set[str] = set()
    for parser in options["parsers"]:
        name = parser.get("name", "")
        if name in config.RESERVED_PARSERS or name in seen:
            yield f"fluent_bit_parsers has '{name}', a name that is in use: choose another."
        seen.add(name)
        regex = parser.get("regex") or ""
        if parser.get("format") == "regex" and not re.search(r"\(\?<\w+>", regex):
            yield f"Parser {name} of fluent_bit_parsers has no regex with a named group like (?<level>...): add one."
        if parser.get("time_format") and not parser.get("time_key"):
            yield f"Parser {name} of fluent_bit_parsers has a time_format and no time_key: name the field that holds the time."


def _host_logs(options: dict[str, Any]) -> Iterator[str]:
    seen: set[str] = set()
    known = {parser.get("name") for parser in options["parsers"]}
    for log in options["host_logs"]:
        name = log.get("name", "")
        if not SHORT_NAME.match(name) or name in seen:
            yield f"fluent_bit_host_logs has the name '{name}': use a new name of lower-case letters, digits and dashes for each."
        seen.add(name)
        for path in log.get("paths") or [""]:
            if not path.startswith("/var/log/") or path.startswith((config.LOGS, "/var/log/containers")) or ".." in path:
                yield f"Host log {name} of fluent_bit_host_logs has the path '{path}': use files below /var/log, no pod's."
        if log.get("parser") and log["parser"] not in known:
            yield f"Host log {name} of fluent_bit_host_logs has the parser '{log['parser']}': define it in fluent_bit_parsers."


def _secrets(options: dict[str, Any], read: list[dict[str, Any]]) -> Iterator[str]:
    own, existing = list(options["secret_keys"]), options["existing_secret"]
    if own and existing:
        yield "fluent_bit_secrets and fluent_bit_existing_secret are both set: use one of the two."
        return
    for key in own:
        if not SECRET_KEY.match(key):
            yield f"fluent_bit_secrets has the key '{key}': use letters, digits, dots, dashes and underscores."
    for key in options["empty_secrets"]:
        yield f"fluent_bit_secrets has no text for '{key}': set one (a number in quotes), or leave the key out."
    needed = [(f"Output {output['name']}", key) for output in read for key in outputs.secret_keys(output)]
    needed += [(f"Output {output['name']}", key) for output in read for key in outputs.secret_files(output)]
    if options["aws_static_keys"]:
        needed += [("fluent_bit_aws_static_keys", key) for key in AWS_KEYS]
    variables: dict[str, str] = {}
    for who, key in needed:
        if not SECRET_KEY.match(key):
            yield f"{who} needs the secret '{key}', which is no valid key: use letters, digits, dots, dashes and underscores."
        elif not existing and key not in own:
            yield f"{who} needs the secret '{key}': add it to fluent_bit_secrets, or name a Secret in fluent_bit_existing_secret."
        other = variables.setdefault(outputs.variable(key), key)
        if other != key:
            yield f"The secrets '{other}' and '{key}' would share one environment variable: rename one of them."


def _output(output: dict[str, Any], options: dict[str, Any]) -> Iterator[str]:
    kind, who = output["type"], f"Output {output['name']} of fluent_bit_outputs"
    if not OUTPUT_NAME.match(output["name"]):
        yield f"{who} has a name that can't be used: use at most 31 of a-z, 0-9, - and _, a letter first and no - or _ last."
    for name in ("host", "endpoint", "sts_endpoint"):
        value = output.get(name)
        bare = str(value).removeprefix("https://") if name == "sts_endpoint" else str(value)
        if value is not None and not HOST.match(bare):
            yield f"{who} has the {name} '{value}': give the host name alone, without scheme, port or path."
    if not 0 < output["port"] < 65536:
        yield f"{who} has the port {output['port']}: use a port from 1 to 65535."
    if output["retry_limit"] < 0:
        yield f"{who} has the retry_limit {output['retry_limit']}: use 0 for retries without an end, or a number of retries."
    if output.get("buffer_limit") and not SIZE.match(output["buffer_limit"]):
        yield f"{who} has the buffer_limit '{output['buffer_limit']}': write a size like 500M or 2G."
    for name in output["namespaces"]:
        if not NAME.match(name):
            yield f"{who} has the namespace '{name}', which is no name of a namespace: use lower-case letters, digits, dashes."
        elif name in options["excluded_namespaces"]:
            yield f"{who} wants namespace {name}, which fluent_bit_excluded_namespaces omits: remove it from one of the two."
    for name, value in output.items():
        if isinstance(value, str) and ("${" in value or (name != "tls_ca" and "\n" in value)):
            yield f"{who} has a line break or ${{...}} in {name}, which Fluent Bit would replace: remove it."
    yield from _credentials(output, who)
    yield from _options(output, who)
    if kind == "cloudwatch_logs":
        yield from _cloudwatch(output, who)
    if kind in ("es", "opensearch"):
        yield from _search(output, who, options)
    if kind == "http" and not output["uri"].startswith("/"):
        yield f"{who} has the uri '{output['uri']}': start it with a slash."


def _credentials(output: dict[str, Any], who: str) -> Iterator[str]:
    ways = [name for name in ("username", "bearer_token_secret", "api_key_secret", "aws_region") if output.get(name)]
    if len(ways) > 1:
        yield f"{who} has both {ways[0]} and {ways[1]}: choose one way to log in."
    if output["type"] != "cloudwatch_logs" and not output["tls"]:
        for name in ("tls_ca", "tls_certificate_secret"):
            if output.get(name):
                yield f"{who} has {name} and no TLS: set tls to true."
        if output.get("aws_region"):
            yield f"{who} has aws_region and no TLS: set tls to true and the port to 443."
    if output.get("tls_ca") and CERTIFICATE not in output["tls_ca"]:
        yield f"{who} has a tls_ca without a certificate: give the text of a PEM file, not its path."
    if output.get("tls_ca") and not output["tls_verify"]:
        yield f"{who} has a tls_ca that is never looked at, because tls_verify is false: remove one of the two."


def _options(output: dict[str, Any], who: str) -> Iterator[str]:
    rendered = outputs.render({**output, "options": {}}, "cluster", "1G")
    for key, value in output["options"].items():
        typed = TYPED_ELSEWHERE.get(str(key).lower())
        if SECRET_OPTIONS.search(str(key)):
            yield f"{who} has '{key}' under options, where a secret would be readable: use the options that end in _secret."
        elif typed or str(key).lower() in rendered:
            hint = f"use its option {typed}" if typed else "remove it"
            yield f"{who} has '{key}' under options, which the role sets itself: {hint}."
        elif isinstance(value, (dict, list)):
            yield f"{who} has a list or mapping in '{key}' under options: give one text, number or truth value."


def _cloudwatch(output: dict[str, Any], who: str) -> Iterator[str]:
    if not REGION.match(output["region"]):
        yield f"{who} has the region '{output['region']}': write it like eu-central-1."
    if output["retention_days"] not in RETENTION:
        choices = ", ".join(map(str, RETENTION[1:]))
        yield f"{who} has retention_days {output['retention_days']}: CloudWatch takes {choices}, or 0 for ever."
    if output.get("log_group") is not None and (
        not LOG_GROUP.match(output["log_group"]) or output["log_group"].startswith("aws/")
    ):
        yield f"{who} has the log_group '{output['log_group']}': use at most 512 letters, digits and . _ - / #, not aws/ first."
    if not LOG_STREAM.match(output["log_stream_prefix"]):
        yield f"{who} has the log_stream_prefix '{output['log_stream_prefix']}': use at most 128 characters without : * and $."
    if output.get("kms_key") and not KMS_KEY.match(output["kms_key"]):
        yield f"{who} has the kms_key '{output['kms_key']}': write it like arn:aws:kms:eu-central-1:123456789012:key/ID."
    elif output.get("kms_key") and (output.get("log_group_class") or output["log_group_per_namespace"]):
        other = "log_group_class" if output.get("log_group_class") else "log_group_per_namespace"
        yield f"{who} has kms_key and {other}: a group with a key is made before the log agent runs, so remove one of the two."
    elif output.get("log_group_class") and not output["create_group"]:
        yield f"{who} has a log_group_class, which only a new group takes: set create_group to true, or remove it."
    elif output["log_group_per_namespace"] and not output["create_group"]:
        yield f"{who} has log_group_per_namespace, which needs groups for new namespaces: set create_group to true."
    if output.get("role_arn") and not ROLE_ARN.match(output["role_arn"]):
        yield f"{who} has the role_arn '{output['role_arn']}': write it like arn:aws:iam::123456789012:role/logs."
    if output.get("external_id") and not output.get("role_arn"):
        yield f"{who} has an external_id and no role_arn: name the role to take on."


def _search(output: dict[str, Any], who: str, options: dict[str, Any]) -> Iterator[str]:
    if not INDEX.match(output["index"]):
        yield f"{who} has the index '{output['index']}': use lower-case letters, digits, dots, dashes and underscores."
    version = version_of(options["image"])
    if version and version < OLDEST_SEARCH:
        wanted = ".".join(map(str, OLDEST_SEARCH))
        yield f"{who} loses records with {options['image']} when part of a bulk is refused: use version {wanted} or newer."
    if output.get("role_arn") and not output.get("aws_region"):
        yield f"{who} has a role_arn and no aws_region: name the region of the OpenSearch domain."


def _together(read: list[dict[str, Any]]) -> Iterator[str]:
    names: set[str] = set()
    places: dict[tuple[Any, ...], str] = {}
    for output in read:
        name = output["name"]
        if outputs.container(output) in names:
            yield f"fluent_bit_outputs has two outputs named {name}: give each a name of its own."
        names.add(outputs.container(output))
        target = [output.get(k) for k in ("type", "host", "port", "tenant", "index", "uri", "region", "endpoint", "log_group")]
        place = (*target, tuple(sorted(output["namespaces"])))
        other = places.setdefault(place, name)
        if other != name:
            yield f"The outputs {other} and {name} of fluent_bit_outputs send every line to the same place: remove one of them."


def problems(options: dict[str, Any]) -> list[str]:
    """Return what is wrong, one sentence each, in the order in which to mend it."""
    found = [*_role(options), *_parsers(options), *_host_logs(options)]
    read = []
    for position, given in enumerate(options["outputs"]):
        try:
            read.append(outputs.read(given, position))
        except outputs.OptionError as error:
            found.append(str(error))
    for output in read:
        found += _output(output, options)
    found += _together(read)
    return found + list(_secrets(options, read))
