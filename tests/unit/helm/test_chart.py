# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a chart is found, and where it is kept."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.helm.chart import Reference
from ansible_collections.flaskops.observability.plugins.module_utils.helm.program import Helm, HelmError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/flaskops/charts"


def archive(folder: Path, version: str, root: str = "small") -> Path:
    chart = folder / "made" / root
    chart.mkdir(parents=True, exist_ok=True)
    (chart / "Chart.yaml").write_text(f"name: small\nversion: {version}\n")
    path = folder / "small-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as packed:
        packed.add(chart, root)
    return path


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("oci://r.test/charts/kube-prometheus-stack", "kube-prometheus-stack"),
        ("https://r.test/small-v1.2.3-rc.1.tgz", "small"),
        ("eck-operator", "eck-operator"),
    ],
)
def test_folder_of_a_pulled_chart(cache: Path, ref: str, name: str) -> None:
    folder = Reference(ref, "1.0.0").folder
    assert folder.parent.parent == cache and folder.name == name
    others = (Reference(ref, "1.0.1"), Reference(ref, "1.0.0", "https://r.test"), Reference(ref, "1.0.0", "https://other.test"))
    assert len({folder, *(other.folder for other in others)}) == 4
    assert Reference(ref, "1.0.0").find() is None


def test_archive_that_is_replaced_is_another_chart(tmp_path: Path) -> None:
    first = Reference(str(archive(tmp_path, "1.0.0"))).find()
    second = Reference(str(archive(tmp_path, "1.0.1"))).find()
    assert first and second and (first.version, second.version) == ("1.0.0", "1.0.1")
    assert first.folder.name == "small"


def test_folder_in_an_archive_may_have_another_name(tmp_path: Path) -> None:
    found = Reference(str(archive(tmp_path, "1.0.0", "other"))).find()
    assert found and found.name == "small"


def test_what_is_no_chart(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tgz").write_text("no archive")
    with tarfile.open(tmp_path / "bare.tgz", "w:gz") as packed:
        packed.add(tmp_path / "empty", "empty")
    helm = Helm("/bin/false")
    for name, reason in (
        ("empty", "no Chart.yaml"),
        ("bare.tgz", "no Chart.yaml"),
        ("text.tgz", "no archive"),
        ("gone", "reason"),
    ):
        with pytest.raises(HelmError, match=reason):
            Reference(str(tmp_path / name)).get(helm)
    assert not list(cache.glob("*/*"))


@pytest.mark.parametrize("name", ["../out", "small/../../out", "/tmp/out"])
def test_archive_that_leads_out_of_its_folder(tmp_path: Path, cache: Path, name: str) -> None:
    path = archive(tmp_path, "1.0.0")
    with tarfile.open(path, "w:gz") as packed:
        packed.addfile(tarfile.TarInfo(name))
    with pytest.raises(HelmError, match=name):
        Reference(str(path)).find()
    assert not list(cache.glob("*/*"))


def test_links_of_an_archive_are_not_followed(tmp_path: Path) -> None:
    path = archive(tmp_path, "1.0.0")
    with tarfile.open(path, "w:gz") as packed:
        packed.add(tmp_path / "made/small", "small")
        link = tarfile.TarInfo("small/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        packed.addfile(link)
        packed.addfile(tarfile.TarInfo("small/link/out"))
    chart = Reference(str(path)).find()
    assert chart and chart.version == "1.0.0"
    assert not (tmp_path / "out").exists() and not (chart.folder / "link").is_symlink()
