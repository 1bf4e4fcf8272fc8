# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages name is there: other pages and their sections, options of roles and of applications, and targets of make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.app import description
from ansible_collections.flaskops.observability.plugins.modules.flask_apps import DOCUMENTATION

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for pattern in ("*.md", "docs/**/*.md", "roles/*/README.md")
    for path in sorted(ROOT.glob(pattern))
}
ROLES = {path.name: path / "meta/argument_specs.yml" for path in (ROOT / "roles").iterdir() if path.is_dir()}
OPTIONS = {role: set(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]) for role, path in ROLES.items()}
KEYS = set(description.spec_of(DOCUMENTATION))
# What the playbooks read of a host in addition to the options of roles.
OF_A_HOST = {
    *("ansible_connection", "ansible_python_interpreter", "environment_name", "external_checks_providers"),
    *("cluster_provider", "cluster_kubeconfig", "cluster_context", "local_cluster_name", "monitoring_provider"),
    *("logging_provider", "logging_backend", "logging_cloudwatch", "logging_outputs", "flask_apps", "flask_app_defaults"),
}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Loader(yaml.SafeLoader):
    """YAML with Ansible's tags, whose texts are taken as they are."""


Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


def blocks(text: str, *languages: str) -> list[str]:
    return [body for _indent, language, body in FENCE.findall(text) if language in languages]


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from mappings(inner)


def unknown(text: str) -> set[str]:
    """The names in a YAML text that are no option: of a role by their beginning, of a host, and of an application."""
    found: set[str] = set()
    for mapping in mappings(yaml.load(text, Loader)):
        for name in map(str, mapping):
            roles = [role for role in OPTIONS if name.startswith(f"{role}_")]
            if roles and name not in OF_A_HOST and not any(name in OPTIONS[role] for role in roles):
                found.add(name)
        apps = mapping.get("flask_apps")
        found |= {str(key) for app in (apps if isinstance(apps, list) else []) for key in app if key not in KEYS}
        if "cluster_provider" in mapping:
            found |= {name for name in mapping if name not in OF_A_HOST and not any(name in known for known in OPTIONS.values())}
    return found


def anchors(text: str) -> set[str]:
    """The sections of a page, as GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def missing(page: str, text: str) -> list[str]:
    """The links and pictures of a page that lead to no file, or to no section of one."""
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)) + re.findall(r'<img src="([^"]+)"', text)
    found = []
    for link in links:
        path, _sign, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target.read_text())):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert missing(page, PAGES[page]) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_option_is_one(page: str) -> None:
    assert [found for text in blocks(PAGES[page], "yaml") if (found := unknown(text))] == []


@pytest.mark.parametrize("page", ["README.md", "docs/your-app.md", "docs/your-cluster.md", "docs/machines.md"])
def test_every_target_and_playbook_is_one(page: str) -> None:
    text = PAGES[page]
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:`|^\$ |&& )(?:\w+=\S+ )*make ([a-z-]+)", text, re.MULTILINE)
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
    playbooks = re.findall(r"flaskops\.observability\.(\w+)(?: |$)", "\n".join(blocks(text, "console")), re.MULTILINE)
    assert [name for name in playbooks if not (ROOT / f"playbooks/{name}.yml").exists()] == []
    assert [path for path in re.findall(r"INVENTORY=(inventories/[\w-]+)", text) if not (ROOT / path).is_dir()] == []
    assert len(targets + playbooks) > 3


def test_options_in_tables_are_keys_of_an_application() -> None:
    """The second column of docs/your-app.md."""
    rows = PAGES["docs/your-app.md"].partition("## What may stop you")[2]
    named = set(
        re.findall(r"`([a-z_]+)[:`]", "\n".join(line.split("|")[2] for line in rows.splitlines() if line.startswith("| ")))
    )
    assert named <= KEYS and len(named) > 15


def test_what_continuous_integration_runs_is_what_the_readme_says() -> None:
    said = re.findall(r"^\$ (make \w+)", blocks(PAGES["README.md"], "console")[0], re.MULTILINE)
    assert said == ["make up", "make test"]
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] in said


def test_what_the_readme_says_of_versions() -> None:
    """The rows of what was tried by `make test`, and the packages."""
    text, images = PAGES["README.md"], yaml.safe_load((ROOT / "images.yml").read_text())
    pins = dict(re.findall(r"^([a-z-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    programs = images["toolchain"]
    for row, version in (
        ("ansible-core", pins["ansible-core"]),
        ("Kubernetes", programs["kubernetes"]["version"]),
        ("Helm", programs["helm"]["version"]),
    ):
        assert f"| {row} | {'.'.join(version.split('.')[:2])}, by `make test`" in text
    charts = images["charts"]
    for name in ("kube-prometheus-stack", "prometheus-blackbox-exporter"):
        assert f"{name} {'.'.join(charts[name]['version'].split('.')[:2])}" in text
    wanted = [f'"{line}"' for line in (ROOT / "requirements.in").read_text().splitlines() if line]
    assert f"pip install {' '.join(wanted)}\n" in text
    assert f"flaskops-observability-{yaml.safe_load((ROOT / 'galaxy.yml').read_text())['version']}.tar.gz" in text


def test_the_picture_of_the_chain_can_be_read_on_a_telephone() -> None:
    """It is no wider than a small one, at which its letters are as large as they are drawn."""
    picture = ElementTree.parse(ROOT / "docs/images/chain.svg").getroot()
    assert int(picture.attrib["width"]) <= 400
    assert [float(item.attrib["font-size"]) for item in picture.iter() if "font-size" in item.attrib] == [13.0]


def test_what_is_wrong_would_be_found() -> None:
    assert missing("README.md", "[a](docs/none.md) [b](docs/verify.md#none) [c](docs/verify.md#node)") == [
        "docs/none.md",
        "docs/verify.md#none",
    ]
    assert unknown("a: [{flask_app_naem: x, verify_name: y, other: z}]") == {"flask_app_naem"}
    assert unknown("flask_apps: [{name: shop, sources: ./shop}]") == {"sources"}
    host = "{cluster_provider: existing, monitoring_providers: none, loki_replicas: 1, cluster_contexts: a}"
    assert unknown(host) == {"monitoring_providers", "cluster_contexts"}
