# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written down twice in this collection says the same in both places."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import leaves

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
TOOLCHAIN: dict[str, Any] = yaml.safe_load((ROOT / "images.yml").read_text())["toolchain"]
INVENTORIES = sorted(path.name for path in (ROOT / "inventories").iterdir() if path.is_dir())
LINKS = ROOT / "collections/ansible_collections/flaskops/observability"
SECRET = re.compile(r"token|passw|secret|api_?key|private_?key|credential|webhook", re.IGNORECASE)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def group_vars(environment: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted((ROOT / "inventories" / environment / "group_vars").rglob("*.yml")):
        found |= load(path)
    return found


def harmless(key: str, value: Any) -> bool:
    """Empty, a switch, a lookup, or the name of a Secret."""
    looked_up = re.search(r"{{.*\b(lookup|query)\(", str(value)) is not None
    return looked_up or value in ("", None) or isinstance(value, bool) or key.endswith(("secret_environment", "_secret"))


def secrets(value: Any) -> Iterator[str]:
    """The keys that are named like a secret and hold text that is no lookup, and text with a private key in it."""
    for key, inner in leaves(value):
        if "PRIVATE KEY-----" in str(inner) or (SECRET.search(key) and not harmless(key, inner)):
            yield key


@pytest.mark.parametrize("role", ROLES)
def test_specification_equals_defaults(role: str) -> None:
    options = load(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = load(ROOT / "roles" / role / "defaults/main.yml") or {}
    assert {name: option["default"] for name, option in options.items() if "default" in option} == defaults
    assert [name for name, option in options.items() if "default" not in option and not option.get("required")] == []
    assert [name for name in options if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("component", sorted(TOOLCHAIN))
def test_version_equals_go_module(component: str) -> None:
    entry = TOOLCHAIN[component]
    text = (ROOT / "toolchain" / component / "go.mod").read_text()
    required = re.findall(rf"^(?:require)?\s+{re.escape(entry['module'])} (\S+)", text, re.MULTILINE)
    assert required == [f"v{entry['version']}"]


def test_every_component_has_an_expected_time() -> None:
    assert sorted(load(ROOT / "toolchain/seconds.yml")) == sorted(TOOLCHAIN)


def test_every_go_module_has_a_version() -> None:
    assert sorted(path.parent.name for path in (ROOT / "toolchain").glob("*/go.mod")) == sorted(TOOLCHAIN)


def test_environments_have_the_same_keys() -> None:
    staging, production, local = (set(group_vars(name)) for name in ("staging", "production", "local"))
    assert staging == production
    assert staging - local == set()


@pytest.mark.parametrize("environment", ["kind", "minikube", "k3d", "docker-desktop"])
def test_a_cluster_of_ones_own_has_nothing_of_the_embedded_one(environment: str) -> None:
    """Its charts and images are upstream's, and nothing is made on this machine but the image."""
    found = group_vars(environment)
    assert set(found) - set(group_vars("local")) <= {"flask_image_base", "kube_prometheus_stack_grafana"}
    assert (found["cluster_provider"], found["flask_image_base"]) == ("existing", "registry")
    (host,) = load(ROOT / "inventories" / environment / "hosts.yml")["own"]["hosts"].values()
    assert host["flask_image_delivery"] in (environment, "none")
    named = [key for key in found if re.search(r"_(binaries|source|chart_ref|image_archive|schedule|alert_inbox)$", key)]
    assert named == []


@pytest.mark.parametrize("environment", INVENTORIES)
def test_inventory_holds_no_secret(environment: str) -> None:
    files = sorted((ROOT / "inventories" / environment).rglob("*.yml"))
    assert files
    assert [(path.name, key) for path in files for key in secrets(load(path))] == []


def test_a_secret_would_be_found() -> None:
    found = {"a": [{"smtp_password": "x"}], "token": "{{ lookup('ansible.builtin.env', 'T') }}", "b": {"api_key": 7}}
    assert list(secrets(found)) == ["smtp_password", "api_key"]


def templated_keys(value: Any) -> Iterator[str]:
    """The keys that hold a template, which Ansible takes as they are written."""
    if isinstance(value, dict):
        yield from (str(key) for key in value if "{{" in str(key))
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from templated_keys(inner)


def test_no_key_is_a_template() -> None:
    folders = [*ROOT.glob("roles/*/[dmtv]*"), ROOT / "playbooks", ROOT / "inventories"]
    files = [path for folder in folders if folder.name != "templates" for path in folder.rglob("*.yml")]
    assert len(files) > len(ROLES)
    assert {str(path.relative_to(ROOT)): keys for path in files if (keys := list(templated_keys(load(path))))} == {}
    assert list(templated_keys([{"a": {"{{ b }}-*": "{{ c }}"}}])) == ["{{ b }}-*"]


# A variable that a template sets, and a list or mapping that it fills as it goes: programs, which stand in Python.
PROGRAM = re.compile(r"{%-?\s*(set|do)\b|\bnamespace\(|\.(append|extend|insert|update|setdefault|pop)\(")


def programs(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if PROGRAM.search(line)]


def test_no_template_is_a_program() -> None:
    folders = [ROOT / name for name in ("roles", "playbooks", "tasks", "toolchain", "in_cluster", "inventories")]
    files = [ROOT / "site.yml"] + [path for folder in folders for path in folder.rglob("*") if path.suffix in (".yml", ".j2")]
    assert len(files) > len(ROLES) * 5
    assert {str(path.relative_to(ROOT)): lines for path in files if (lines := programs(path.read_text()))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "{% set a = 1 %}",
        "{%- set a %}",
        "{%set a = 1%}",
        "{{ namespace(found=[]) }}",
        "{{ found.append(app) }}",
        "set _ = a.update({})",
    ],
)
def test_a_program_in_a_template_would_be_found(text: str) -> None:
    assert programs(f"a: 1\nb: {text}\n") == [f"b: {text}"]
    assert programs("{% for app in apps %}\n- {{ app.name | combine({}) }}\n{% endfor %}") == []


# Who speaks HTTP, and to whom. Towards Kubernetes that are two files: the second is mounted into a pod alone.
HTTP = {
    "plugins/module_utils/kube/transport.py": "Kubernetes",
    "plugins/module_utils/drill/dead_man.py": "Kubernetes",
    "plugins/module_utils/node/host.py": "image registries",
    "plugins/module_utils/image/registry.py": "image registries",
    "plugins/module_utils/credentials/guard.py": "the openers of the others",
    "plugins/module_utils/external_checks/client.py": "providers of outside checks",
    "plugins/module_utils/verify/run.py": "the application from outside",
    "plugins/module_utils/verify/by_name.py": "the application from outside, by the name of a host",
    "plugins/module_utils/verify/log_stores.py": "log back ends of the cluster, over a connection of the transport",
    "plugins/module_utils/verify/given_backends.py": "log back ends outside of the cluster",
    "plugins/module_utils/elastic.py": "Elasticsearch and Kibana, over a connection of the transport",
    "plugins/module_utils/toolchain.py": "mirrors of releases",
    "in_cluster/log_collector/collector.py": "VictoriaLogs",
}
SPEAKS = re.compile(
    r"\b(urlopen|urllib3|http\.client|urllib\.request)\b|^\s*(import|from) (requests|httpx|aiohttp)\b", re.MULTILINE
)
# How a pod knows its API server.
IN_A_POD = re.compile("KUBERNETES_SERVICE_HOST|secrets/kubernetes\\.io/serviceaccount")


def test_requests_to_kubernetes_are_sent_by_two_files() -> None:
    files = [path for name in ("plugins", "roles", "in_cluster") for path in (ROOT / name).rglob("*.py")]
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in files if "files/runtime" not in str(path)}
    assert {name for name, text in texts.items() if SPEAKS.search(text)} == set(HTTP)
    two = {name for name, whom in HTTP.items() if whom == "Kubernetes"}
    assert {name for name, text in texts.items() if IN_A_POD.search(text)} == two


def test_readmes_are_not_stale() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_links_of_the_collection_resolve() -> None:
    links = sorted(LINKS.iterdir())
    assert links
    assert [link.name for link in links if not link.is_symlink() or not link.exists()] == []
    assert [link.name for link in links if link.resolve() != ROOT / link.name] == []
