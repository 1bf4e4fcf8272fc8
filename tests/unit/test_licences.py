# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No module of the programs that this project builds is under the AGPL, or under a licence that is not open.

By name for every module in go.mod and go.sum, and by its licence's text for every module whose content go.sum pins and the
cache of modules has: what no program was built of is not there, and is not read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = sorted(path.parent for path in (ROOT / "toolchain").glob("*/go.mod"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops/go/mod"
# Owners of programs under such licences, and those of their modules that are open.
OWNERS: dict[str, str] = {
    "github.com/grafana": "regexp|dskit|gomemcache|jsonparser|otel-profiling-go|pyroscope-go(/godeltaprof)?",
    "github.com/minio": "sha256-simd|simdjson-go|minio-go(/v7)?|md5-simd|highwayhash|crc64nvme",
    "github.com/hashicorp": (
        r"(consul|nomad)/(api|sdk)|vault/api|cronexpr|errwrap|hcl(/v2)?|logutils|mdns|memberlist|serf|yamux|raft"
        r"|go-[\w-]+(/v\d)?|golang-lru(/v\d)?"
    ),
    "github.com/mongodb": "mongo-go-driver",
    "github.com/elastic": r"go-[\w-]+(/v\d)?",
    "github.com/cockroachdb": "apd(/v3)?|errors|logtags|redact|pebble|swiss|tokenbucket|datadriven|crlib|fifo",
    "github.com/redis": "go-redis(/v9)?|rueidis",
    "github.com/sourcegraph": "conc|jsonrpc2|go-diff",
}
# A licence is what its text names first: the MPL names the AGPL further down.
OPEN = {
    "Apache-2.0": "apache license",
    "MPL-2.0": "mozilla public license",
    "BSD": "redistribution and use in source and binary forms",
    "BSD ": "bsd",
    "MIT": "permission is hereby granted, free of charge",
    "MIT ": "mit license",
    "ISC": "permission to use, copy, modify",
    "CC0-1.0": "cc0 1.0 universal",
    "Unlicense": "this is free and unencumbered software",
}
CLOSED = {
    "AGPL": "affero general public license",
    "SSPL": "server side public license",
    "BUSL": "business source license",
    "Elastic License": "elastic license",
    "Commons Clause": "commons clause",
    "PolyForm": "polyform",
}
FILES = re.compile(r"(un)?licen[sc]e([.-].*)?|copying(\..*)?", re.IGNORECASE)


def named(folder: Path) -> set[str]:
    """Every module that go.mod or go.sum names."""
    words = re.findall(r"^\s*(?:require |replace )?(\S+)(?: v\S+)?(?: => (\S+))? v\S+", (folder / "go.mod").read_text(), re.M)
    return {name for pair in words for name in pair if name} | {module for module, _version in pinned(folder, "(?:/go.mod)?")}


def pinned(folder: Path, suffix: str = "") -> set[tuple[str, str]]:
    """The modules whose content, and not only whose go.mod, go.sum pins."""
    found = re.findall(rf"^(\S+) (v[^\s/]+){suffix} h1:", (folder / "go.sum").read_text(), re.M)
    return {(module, version) for module, version in found}


def refused(module: str) -> bool:
    """Whether a module is one of a program under a licence that is not wanted."""
    owner, name = "/".join(module.lower().split("/")[:2]), "/".join(module.lower().split("/")[2:])
    return owner in OWNERS and not re.fullmatch(OWNERS[owner], name)


def licence(text: str) -> str:
    """The name of a licence, `` for none that is known; one that is not open has its own."""
    text = " ".join(text.lower().split())
    places = {name: text.find(words) for name, words in (OPEN | CLOSED).items() if words in text}
    first = min(places, key=lambda name: places[name], default="")
    return "Commons Clause" if "Commons Clause" in places else first.strip()


def cached(module: str, version: str) -> Path:
    """The folder of a module's content; Go writes a capital as ! and the small letter."""
    return CACHE / re.sub(r"[A-Z]", lambda letter: f"!{letter[0].lower()}", f"{module}@{version}")


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.name)
def test_no_module_is_of_a_program_under_the_agpl(component: Path) -> None:
    found = named(component)
    assert len(found) > 2
    assert [module for module in sorted(found) if refused(module)] == []


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.name)
def test_every_module_has_an_open_licence(component: Path) -> None:
    there = [item for item in sorted(pinned(component)) if cached(*item).is_dir()]
    if not there:
        pytest.skip(f"{component.name} was not built on this machine, so that its modules are not in the cache")
    wrong = {}
    for module, version in there:
        files = [path for path in cached(module, version).iterdir() if path.is_file() and FILES.fullmatch(path.name)]
        found = {licence(path.read_text(errors="replace")) for path in files}
        if not found & {name.strip() for name in OPEN} or found & set(CLOSED):
            wrong[f"{module}@{version}"] = found
    assert wrong == {}


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("github.com/grafana/loki/v3", True),
        ("github.com/grafana/loki/pkg/push", True),
        ("github.com/Grafana/tempo", True),
        ("github.com/minio/minio", True),
        ("github.com/hashicorp/vault", True),
        ("github.com/hashicorp/consul/api", False),
        ("github.com/grafana/regexp", False),
        ("github.com/prometheus/common", False),
    ],
)
def test_such_a_module_would_be_found(module: str, wanted: bool, tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module x\n\ngo 1.26\n\nrequire example.org/a v1.0.0\n")
    (tmp_path / "go.sum").write_text(f"{module} v1.0.0/go.mod h1:x=\n")
    assert [name for name in named(tmp_path) if refused(name)] == ([module] if wanted else [])
    (tmp_path / "go.sum").write_text("")
    for line in (f"require (\n\t{module} v1.0.0 // indirect\n)\n", f"replace example.org/a => {module} v1.0.0\n"):
        (tmp_path / "go.mod").write_text(f"module x\n\n{line}")
        assert [name for name in named(tmp_path) if refused(name)] == ([module] if wanted else [])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("GNU AFFERO\n GENERAL PUBLIC LICENSE\nVersion 3", "AGPL"),
        ("Mozilla Public License Version 2.0 ... GNU Affero General Public License", "MPL-2.0"),
        ("Business Source License 1.1 ... Change License: Apache License", "BUSL"),
        ('"Commons Clause" License Condition v1.0 ... Apache License', "Commons Clause"),
        ("Apache License 2.0 with the Commons Clause", "Commons Clause"),
        ("Copyright 2020 X. All rights reserved.", ""),
        ("Permission is hereby granted, free of charge, to any person", "MIT"),
    ],
)
def test_a_licence_is_what_it_names_first(text: str, name: str) -> None:
    assert licence(text) == name
