# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of role fluent_bit for the tests: good sets by what they show, and wrong ones with the sentence that refuses them."""

from __future__ import annotations

from typing import Any

Options = dict[str, Any]

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
DEFAULTS: Options = {
    "name": "fluent-bit",
    "namespace": "logging",
    "image": "cr.fluentbit.io/fluent/fluent-bit:5.1.3",
    "cluster_label": "staging-1",
    "outputs": [],
    "secret_keys": [],
    "empty_secrets": [],
    "existing_secret": "",
    "aws_static_keys": False,
    "excluded_namespaces": [],
    "heed_annotations": True,
    "merge_json": True,
    "multiline_parsers": ["python"],
    "parsers": [],
    "host_logs": [],
    "log_level": "info",
    "buffer_path": "/var/lib/fluent-bit",
    "buffer_limit": "2G",
    "buffer_policy": "drop_oldest",
    "rejected_limit": "1G",
    "metrics_port": 2020,
}
LOKI: Options = {"type": "loki", "host": "loki.loki.svc"}
VICTORIA_LOGS: Options = {"type": "victoria_logs", "host": "victoria-logs.victoria-logs.svc"}
CLOUDWATCH: Options = {"type": "cloudwatch_logs", "region": "eu-central-1"}
KMS_KEY = "arn:aws:kms:eu-central-1:123456789012:key/6f1d2c3b"
ES: Options = {"type": "es", "host": "logs-es-http.elastic.svc", "tls": True}
OPENSEARCH: Options = {"type": "opensearch", "host": "opensearch.logging.svc"}
HTTP: Options = {"type": "http", "host": "collector.example.com", "uri": "/logs"}
NGINX: Options = {"name": "nginx", "format": "regex", "regex": r"^(?<client>\S+) (?<request>.+)$", "types": "size:integer"}

GOOD: dict[str, Options] = {
    "loki": {"outputs": [LOKI]},
    "loki with a tenant, TLS and a password": {
        "outputs": [{**LOKI, "tenant": "shop", "tls": True, "tls_ca": PEM, "username": "u", "password_secret": "loki-password"}],
        "secret_keys": ["loki-password"],
    },
    "loki with a token of an existing Secret": {
        "outputs": [{**LOKI, "bearer_token_secret": "token", "tls": True, "tls_verify": False}],
        "existing_secret": "loki-login",
    },
    "loki with a client certificate": {
        "outputs": [{**LOKI, "tls": True, "tls_certificate_secret": "tls.crt", "tls_key_secret": "tls.key"}],
        "existing_secret": "loki-client",
    },
    "victorialogs": {"outputs": [VICTORIA_LOGS]},
    "victorialogs behind a proxy with a password": {
        "outputs": [{**VICTORIA_LOGS, "path": "/logs/", "tenant": "3:7", "tls": True, "username": "u", "password_secret": "p"}],
        "secret_keys": ["p"],
    },
    "cloudwatch": {"outputs": [CLOUDWATCH]},
    "cloudwatch, a group for each namespace, static keys": {
        "outputs": [
            {**CLOUDWATCH, "log_group": "/shop", "log_group_per_namespace": True, "log_group_class": "INFREQUENT_ACCESS"}
        ],
        "secret_keys": ["aws-access-key-id", "aws-secret-access-key"],
        "aws_static_keys": True,
    },
    "cloudwatch, a group with a KMS key, another account": {
        "outputs": [
            {
                **CLOUDWATCH,
                "kms_key": KMS_KEY,
                "role_arn": "arn:aws:iam::123456789012:role/logs",
                "external_id": "e",
                "log_stream_prefix": "eu.",
            }
        ]
    },
    "cloudwatch at another endpoint": {
        "outputs": [{**CLOUDWATCH, "endpoint": "moto.test.svc", "port": 5000, "tls_verify": False, "retention_days": 0}]
    },
    "elasticsearch, a data stream, an API key": {
        "outputs": [{**ES, "tls_ca": PEM, "api_key_secret": "key"}],
        "secret_keys": ["key"],
    },
    "elasticsearch, daily indices": {
        "outputs": [{**ES, "daily_index": True, "index": "k8s", "path": "/proxy", "retry_limit": 10, "buffer_limit": "500M"}]
    },
    "opensearch": {"outputs": [OPENSEARCH]},
    "opensearch on AWS": {
        "outputs": [
            {
                **OPENSEARCH,
                "tls": True,
                "port": 443,
                "aws_region": "eu-west-1",
                "aws_service": "aoss",
                "role_arn": "arn:aws:iam::123456789012:role/r",
            }
        ]
    },
    "http": {"outputs": [{**HTTP, "tls": True, "port": 443, "bearer_token_secret": "t", "format": "json"}], "secret_keys": ["t"]},
    "all at once": {
        "outputs": [
            LOKI,
            VICTORIA_LOGS,
            CLOUDWATCH,
            ES,
            OPENSEARCH,
            HTTP,
            {**LOKI, "name": "audit", "tenant": "audit", "namespaces": ["a", "b"]},
        ]
    },
    "without multi-line, JSON and annotations": {
        "outputs": [LOKI],
        "multiline_parsers": [],
        "merge_json": False,
        "heed_annotations": False,
        "buffer_policy": "pause",
    },
    "every language, parsers, files of the node, excluded namespaces": {
        "outputs": [LOKI],
        "multiline_parsers": ["python", "java", "go", "ruby"],
        "parsers": [
            NGINX,
            {"name": "app", "format": "json", "time_key": "ts", "time_format": "%Y-%m-%dT%H:%M:%S", "time_keep": True},
        ],
        "host_logs": [
            {"name": "kernel", "paths": ["/var/log/kern.log"]},
            {"name": "nginx", "paths": ["/var/log/nginx/*.log"], "parser": "nginx"},
        ],
        "excluded_namespaces": ["kube-system", "noise"],
    },
    "keys of the plugin's own": {"outputs": [{**LOKI, "options": {"net.keepalive_idle_timeout": "20s", "tls.debug": 2}}]},
}

WRONG: dict[str, tuple[Options, str]] = {
    "no output": ({}, "fluent_bit_outputs is empty: name at least one backend"),
    "unknown type": (
        {"outputs": [{"type": "splunk"}]},
        "has the type 'splunk': use one of cloudwatch_logs, es, http, loki, opensearch, victoria_logs.",
    ),
    "no mapping": ({"outputs": ["loki"]}, "Output number 1 of fluent_bit_outputs is not a mapping"),
    "no host": ({"outputs": [{"type": "loki"}]}, "can't be used: missing required arguments: host."),
    "another type's option": (
        {"outputs": [{**LOKI, "region": "eu-central-1"}]},
        "has the option 'region', which the type loki does not know",
    ),
    "a text for a number": ({"outputs": [{**LOKI, "port": "https"}]}, "argument 'port' is of type str"),
    "a URL for a host": (
        {"outputs": [{**LOKI, "host": "http://loki:3100"}]},
        "has the host 'http://loki:3100': give the host name alone",
    ),
    "port": ({"outputs": [{**LOKI, "port": 70000}]}, "has the port 70000: use a port from 1 to 65535."),
    "the same name twice": ({"outputs": [LOKI, {**LOKI, "host": "other"}]}, "has two outputs named loki"),
    "the same place twice": (
        {"outputs": [LOKI, {**LOKI, "name": "again"}]},
        "loki and again of fluent_bit_outputs send every line to the",
    ),
    "name": ({"outputs": [{**LOKI, "name": "My Loki"}]}, "has a name that can't be used"),
    "a user without a password": ({"outputs": [{**LOKI, "username": "u"}]}, "username, password_secret"),
    "a secret that nobody gives": (
        {"outputs": [{**LOKI, "username": "u", "password_secret": "pw"}]},
        "Output loki needs the secret 'pw': add it to fluent_bit_secrets",
    ),
    "an empty secret": (
        {"outputs": [LOKI], "secret_keys": ["pw"], "empty_secrets": ["pw"]},
        "fluent_bit_secrets has no text for 'pw'",
    ),
    "both kinds of Secret": (
        {"outputs": [LOKI], "secret_keys": ["a"], "existing_secret": "b"},
        "fluent_bit_secrets and fluent_bit_existing_secret are both set",
    ),
    "secrets that share a variable": (
        {
            "outputs": [{**LOKI, "bearer_token_secret": "a-b"}, {**HTTP, "bearer_token_secret": "a.b"}],
            "secret_keys": ["a-b", "a.b"],
        },
        "would share one environment variable",
    ),
    "two ways to log in": (
        {"outputs": [{**LOKI, "username": "u", "password_secret": "a", "bearer_token_secret": "a"}], "secret_keys": ["a"]},
        "has both username and bearer_token_secret",
    ),
    "AWS keys that nobody gives": ({"outputs": [CLOUDWATCH], "aws_static_keys": True}, "needs the secret 'aws-access-key-id'"),
    "an authority without TLS": ({"outputs": [{**LOKI, "tls_ca": PEM}]}, "has tls_ca and no TLS: set tls to true."),
    "the path of an authority": ({"outputs": [{**ES, "tls_ca": "/etc/ca.pem"}]}, "has a tls_ca without a certificate"),
    "an authority that is not looked at": ({"outputs": [{**ES, "tls_ca": PEM, "tls_verify": False}]}, "that is never looked at"),
    "a client certificate without its key": (
        {"outputs": [{**LOKI, "tls": True, "tls_certificate_secret": "c"}]},
        "tls_certificate_secret, tls_key_secret",
    ),
    "region": ({"outputs": [{**CLOUDWATCH, "region": "Frankfurt"}]}, "has the region 'Frankfurt': write it like eu-central-1."),
    "no region": ({"outputs": [{"type": "cloudwatch_logs"}]}, "missing required arguments: region."),
    "retention": ({"outputs": [{**CLOUDWATCH, "retention_days": 31}]}, "has retention_days 31: CloudWatch takes 1, 3, 5,"),
    "log group": ({"outputs": [{**CLOUDWATCH, "log_group": "my group"}]}, "has the log_group 'my group'"),
    "log stream": ({"outputs": [{**CLOUDWATCH, "log_stream_prefix": "a:b"}]}, "has the log_stream_prefix 'a:b'"),
    "groups that can't be": (
        {"outputs": [{**CLOUDWATCH, "log_group_per_namespace": True, "create_group": False}]},
        "set create_group to true.",
    ),
    "KMS key": ({"outputs": [{**CLOUDWATCH, "kms_key": "6f1d"}]}, "has the kms_key '6f1d': write it like arn:aws:kms:"),
    "a key for groups that are not known before": (
        {"outputs": [{**CLOUDWATCH, "kms_key": KMS_KEY, "log_group_per_namespace": True}]},
        "has kms_key and log_group_per_namespace",
    ),
    "role": ({"outputs": [{**CLOUDWATCH, "role_arn": "logs"}]}, "has the role_arn 'logs'"),
    "external id alone": ({"outputs": [{**CLOUDWATCH, "external_id": "e"}]}, "has an external_id and no role_arn"),
    "an old image with bulks": (
        {"outputs": [ES], "image": "fluent/fluent-bit:5.1.1"},
        "loses records with fluent/fluent-bit:5.1.1 when part of a bulk is refused: use version 5.1.3 or newer.",
    ),
    "a very old image": ({"outputs": [LOKI], "image": "fluent/fluent-bit:v3.2.4"}, "use version 5.0.6 or newer."),
    "index": ({"outputs": [{**ES, "index": "Logs"}]}, "has the index 'Logs': use lower-case letters"),
    "signing without TLS": ({"outputs": [{**OPENSEARCH, "aws_region": "eu-west-1"}]}, "has aws_region and no TLS"),
    "uri": ({"outputs": [{**HTTP, "uri": "logs"}]}, "has the uri 'logs': start it with a slash."),
    "retries": ({"outputs": [{**LOKI, "retry_limit": -1}]}, "has the retry_limit -1"),
    "size of a buffer": (
        {"outputs": [{**LOKI, "buffer_limit": "2 GB"}]},
        "has the buffer_limit '2 GB': write a size like 500M or 2G.",
    ),
    "size of all buffers": ({"outputs": [LOKI], "buffer_limit": "much"}, "fluent_bit_buffer_limit is 'much'"),
    "folder": ({"outputs": [LOKI], "buffer_path": "/var/log"}, "fluent_bit_buffer_path is '/var/log': name a folder of its own"),
    "cluster": ({"outputs": [LOKI], "cluster_label": "my cluster"}, "fluent_bit_cluster_label is 'my cluster'"),
    "wanted and excluded": (
        {"outputs": [{**LOKI, "namespaces": ["shop"]}], "excluded_namespaces": ["shop"]},
        "wants namespace shop, which fluent_bit_excluded_namespaces omits",
    ),
    "namespace": (
        {"outputs": [LOKI], "excluded_namespaces": ["kube_system"]},
        "fluent_bit_excluded_namespaces has 'kube_system'",
    ),
    "a variable in a value": ({"outputs": [{**LOKI, "tenant": "${HOME}"}]}, "which Fluent Bit would replace: remove it."),
    "a secret under options": (
        {"outputs": [{**LOKI, "options": {"http_passwd": "CANARY"}}]},
        "has 'http_passwd' under options, where a secret would be readable",
    ),
    "the role's key under options": (
        {"outputs": [{**LOKI, "options": {"retry_limit": 1}}]},
        "has 'retry_limit' under options, which the role sets itself: use its option retry_limit.",
    ),
    "a list under options": (
        {"outputs": [{**LOKI, "options": {"net.dns.mode": ["TCP"]}}]},
        "has a list or mapping in 'net.dns.mode'",
    ),
    "a parser's name": (
        {"outputs": [LOKI], "parsers": [{**NGINX, "name": "level_json"}]},
        "has 'level_json', a name that is in use",
    ),
    "a parser without a group": (
        {"outputs": [LOKI], "parsers": [{"name": "p", "format": "regex", "regex": "^a$"}]},
        "has no regex with a named group",
    ),
    "a time format alone": (
        {"outputs": [LOKI], "parsers": [{"name": "p", "format": "json", "time_format": "%s"}]},
        "has a time_format and no time_key",
    ),
    "a pod's file as the node's": (
        {"outputs": [LOKI], "host_logs": [{"name": "pods", "paths": ["/var/log/pods/*"]}]},
        "has the path '/var/log/pods/*': use files below /var/log, no pod's.",
    ),
    "an unknown parser": (
        {"outputs": [LOKI], "host_logs": [{"name": "nginx", "paths": ["/var/log/nginx.log"], "parser": "nginx"}]},
        "has the parser 'nginx': define it in fluent_bit_parsers.",
    ),
    "ends with a dash": ({"outputs": [{**LOKI, "name": "loki-"}]}, "has a name that can't be used"),
    "containers of one name": (
        {"outputs": [{**LOKI, "name": "a_b"}, {**HTTP, "name": "a-b"}]},
        "has two outputs named a-b",
    ),
    "no port for the second": ({"outputs": [LOKI, HTTP], "metrics_port": 65535}, "with one above it for each output"),
    "metrics port": ({"outputs": [LOKI], "metrics_port": 0}, "fluent_bit_metrics_port is 0"),
}
