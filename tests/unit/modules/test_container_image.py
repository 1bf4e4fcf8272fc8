# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content tag, the build context and the decisions of container_image."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.flaskops.observability.plugins.module_utils.image import build as image_build
from ansible_collections.flaskops.observability.plugins.module_utils.image import build_context, deliver
from ansible_collections.flaskops.observability.plugins.module_utils.image import inputs as image_inputs
from ansible_collections.flaskops.observability.plugins.module_utils.image import registry as image_registry
from ansible_collections.flaskops.observability.plugins.module_utils.image.build_context import TreeEntry
from ansible_collections.flaskops.observability.plugins.module_utils.node import host as host_module
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import BuildError, Engine, EngineError
from ansible_collections.flaskops.observability.plugins.module_utils.node.images import ImageError
from ansible_collections.flaskops.observability.plugins.modules import container_image

from tests.fakes.certificates import certificate as fake_certificate

ROOT = Path(__file__).resolve().parents[3]


class FakeEngine:
    """Remembers what it was asked; images are a set of references."""

    def __init__(self, images: set[str] | None = None, name: str = "podman") -> None:
        self.name, self.path, self.env = name, name, {}
        self.images = images or set()
        self.pushed: dict[str, str] = {}  # what a registry has that knows the engine's login, and what the engine says of it
        self.calls: list[list[str]] = []
        self.builds: list[dict[str, Any]] = []
        self.fail_pull = self.fail_build = ""
        self.fail_step = "RUN false"

    def image_exists(self, ref: str) -> bool:
        return ref in self.images

    def run(self, args: list[str], input: bytes | None = None, timeout: float | None = None) -> SimpleNamespace:
        self.calls.append(args)
        if args[0] == "pull" and self.fail_pull:
            raise EngineError(self.fail_pull)
        if args[:2] == ["manifest", "inspect"] and (said := self.pushed.get(args[2], "manifest unknown")):
            raise EngineError(said)
        return SimpleNamespace(stdout="\n".join(sorted(self.images)).encode())

    def build(
        self,
        context: str,
        containerfile: str,
        ref: str,
        build_args: dict[str, str],
        volumes: list[str] | None = None,
        options: list[str] | None = None,
    ) -> None:
        if self.fail_build:
            raise BuildError(self.fail_build, self.fail_step)
        words = options or []
        secrets = [dict(part.split("=") for part in word.split(",")) for word in words if word.startswith("id=")]
        self.builds.append({"ref": ref, "files": sorted(os.listdir(context)), "args": build_args, "volumes": volumes})
        self.builds[-1] |= {"options": words, "secrets": {one["id"]: Path(one["src"]).read_text() for one in secrets}}
        self.builds[-1]["modes"] = {Path(one["src"]).stat().st_mode & 0o777 for one in secrets}
        self.images.add(ref)


class FakeModule:
    def __init__(self, check_mode: bool = False, **params: Any) -> None:
        self.params = {k: v.get("default") for k, v in container_image.ARGUMENTS["argument_spec"].items()} | params
        self.check_mode = check_mode
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "Containerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE} AS a\nARG A\n")
    (tmp_path / "app.py").write_text("app = 1\n")
    return tmp_path


def tag_of(source: Path, **params: Any) -> str:
    module = FakeModule(check_mode=True, source=str(source), repository="localhost/a", **params)
    return deliver.present(module, FakeEngine())["tag"]


def test_tag_depends_on_every_input(source: Path) -> None:
    tags = [tag_of(source), tag_of(source, build_args={"A": "1"}), tag_of(source, base="debian")]
    (source / "app.py").chmod(0o755)
    tags.append(tag_of(source))
    (source / "app.py").write_text("app = 2\n")
    tags.append(tag_of(source))
    (source / "app.py").rename(source / "other.py")
    tags.append(tag_of(source))
    assert len(set(tags)) == len(tags)
    assert all(deliver.CONTENT_TAG.match(tag) for tag in tags)


def test_tag_ignores_excluded_files_and_times(source: Path) -> None:
    before = tag_of(source)
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "app.pyc").write_bytes(b"x")
    os.utime(source / "app.py", (1, 1))
    assert tag_of(source) == before


def test_times_follow_the_content(tmp_path: Path) -> None:
    """So a browser sees another file of the same length; and no wheel has a file from before 1980."""
    for folder, content in (("one", b"red"), ("two", b"tan"), ("three", b"red")):
        build_context.write_tree({"site.css": TreeEntry.text(content)}, str(tmp_path / folder))
    times = {name: (tmp_path / name / "site.css").stat().st_mtime for name in ("one", "two", "three")}
    assert times["one"] == times["three"] != times["two"]
    assert min(times.values()) > 315_532_800


@pytest.mark.parametrize("ignored", [".*", "*\n!app.py", ".flaskops", "**"])
@pytest.mark.parametrize("name", [".dockerignore", ".containerignore"])
def test_what_is_added_is_not_ignored(source: Path, tmp_path: Path, name: str, ignored: str) -> None:
    (source / name).write_text(ignored)
    folder = tmp_path / "ours"
    folder.mkdir()
    (folder / "c.py").write_text("")
    added = {"extra_files": {".ours/a": "1", ".ours/b": "2"}, "extra_folders": {".flaskops": str(folder)}}
    module = FakeModule(source=str(source), repository="localhost/a", exclude=[".*", "*.py"], **added)
    assert {".ours/a", ".ours/b", ".flaskops/c.py"} <= set(image_inputs.inputs(module.params).tree)
    # The engine would heed it once more.
    assert name not in image_inputs.inputs(module.params).tree


def test_parts_of_the_hash_do_not_run_together() -> None:
    one = build_context.content_tag({"a": TreeEntry.text(b"bc")}, "b", {}, "c")
    assert one != build_context.content_tag({"ab": TreeEntry.text(b"bc")}, "b", {}, "c")
    assert one != build_context.content_tag({"a": TreeEntry.text(b"bc")}, "", {}, "bc")


def test_builds_once_and_never_decides_the_base_again(source: Path) -> None:
    engine, module = FakeEngine(), FakeModule(source=str(source), repository="localhost/a")
    first = deliver.present(module, engine)
    assert first["changed"] and first["base"] == module.params["base_image"]
    assert (engine.builds[0]["args"], engine.builds[0]["options"]) == ({"BASE_IMAGE": module.params["base_image"]}, [])
    engine.calls.clear()
    second = deliver.present(module, engine)
    assert not second["changed"] and second["image"] == first["image"]
    assert engine.calls == [] and len(engine.builds) == 1


def test_check_mode_says_changed_and_builds_nothing(source: Path) -> None:
    engine = FakeEngine()
    assert deliver.present(FakeModule(True, source=str(source), repository="localhost/a"), engine)["changed"]
    assert engine.builds == [] and engine.calls == []


@pytest.mark.parametrize(
    ("params", "parts"),
    [
        ({"build_args": {"A": "1", "PIP_EXTRA_INDEX_URL": "x"}}, ["build_args", "PIP_EXTRA_INDEX_URL", "ARG"]),
        ({"build_secrets": {"netrc": "x"}}, ["build_secrets", "netrc", "--mount=type=secret,id=netrc"]),
        ({"build_secrets": {"pip": {"src": "/nowhere"}}}, ["build_secrets.pip", "src"]),
        ({"build_secrets": {"pip": 1}}, ["build_secrets.pip", "src"]),
        ({"build_secrets": {"p,i": "x"}}, ["build_secrets"]),
        ({"containerfile": "Needy"}, ["secret key", "build_secrets"]),
        ({"target": "b"}, ["target is b", "(a, last)"]),
        ({"containerfile": "docker/Other"}, ["docker/Other", "containerfile"]),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_what_the_containerfile_has_no_place_for_is_refused(
    source: Path, params: dict[str, Any], parts: list[str], check_mode: bool
) -> None:
    (source / "Containerfile").write_text(
        "FROM x AS a\nARG A B=1 \\\n  C\nRUN --mount=target=/p,id=pip,type=secret x\n# ARG PIP_EXTRA_INDEX_URL\nFROM a as last\n"
    )
    (source / "Needy").write_text("FROM x\nRUN --mount=type=secret,id=key,required --mount=type=secret,id=other true\n")
    engine = FakeEngine()
    with pytest.raises(ImageError) as error:
        deliver.present(FakeModule(check_mode, source=str(source), repository="localhost/a", **params), engine)
    assert all(part in str(error.value) for part in parts), error.value
    assert engine.builds == engine.calls == []


def test_arguments_that_every_build_knows(source: Path) -> None:
    known = {"A": "1", "HTTP_PROXY": "x", "no_proxy": "y", "SOURCE_DATE_EPOCH": "1", "BASE_IMAGE": "z"}
    assert tag_of(source, build_args=known)


def test_a_containerfile_anywhere_in_the_tree_with_an_ignore_file_of_its_own(source: Path) -> None:
    (source / "docker").mkdir()
    (source / "docker/Web").write_text("FROM x\n")
    (source / ".dockerignore").write_text("app.py")
    params = {"source": str(source), "repository": "localhost/a", "containerfile": "docker/Web"}
    assert set(image_inputs.inputs(FakeModule(**params).params).tree) == {"Containerfile", "docker/Web"}
    (source / "docker/Web.dockerignore").write_text("Containerfile")
    found = image_inputs.inputs(FakeModule(**params).params)
    assert (set(found.tree), found.containerfile) == ({"docker/Web", "app.py"}, "FROM x\n")


def test_target_platform_and_rebuild_are_in_the_tag_and_in_the_command(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine({container_image.ARGUMENTS["argument_spec"]["base_image"]["default"]})
    given = {"target": "a", "platform": "linux/arm64", "rebuild": "2026-11"}
    tags = {
        deliver.present(FakeModule(source=str(source), repository="localhost/a", **{k: v}), engine)["tag"]
        for k, v in given.items()
    }
    assert len(tags | {tag_of(source)}) == 4
    assert [build["options"] for build in engine.builds] == [
        ["--target", "a"],
        ["--platform", "linux/arm64"],
        ["--no-cache", "--pull"],
    ]
    base = container_image.ARGUMENTS["argument_spec"]["base_image"]["default"]
    assert engine.calls == [["pull", "--platform", "linux/arm64", base], ["pull", base]]
    # The same text builds nothing again; true does so each time.
    assert not deliver.present(FakeModule(source=str(source), repository="localhost/a", rebuild="2026-11"), engine)["built"]
    assert tag_of(source, rebuild="true") != tag_of(source, rebuild="true")
    before = tag_of(source)
    monkeypatch.setattr(deliver.platform, "machine", lambda: "riscv64")
    assert tag_of(source) != before


def test_a_secret_is_in_a_private_file_only(source: Path, tmp_path: Path) -> None:
    (source / "Containerfile").write_text("FROM x\nRUN --mount=type=secret,id=pip --mount=type=secret,target=/run/netrc true\n")
    (tmp_path / "my-netrc").write_text("machine pypi.example.com\nlogin me\npassword s3cret-word\n")
    pip = "[global]\nindex-url = https://me:hidden-word@pypi.example.com/simple\n"
    params = {"build_secrets": {"pip": pip, "netrc": {"src": str(tmp_path / "my-netrc")}}, "exclude": ["my-netrc"]}
    engine, module = FakeEngine(), FakeModule(source=str(source), repository="localhost/a", **params)
    deliver.present(module, engine)
    assert module.params["build_secrets"] == params["build_secrets"]  # Ansible shows the options at -vvv
    (build,) = engine.builds
    assert (build["secrets"]["pip"], "s3cret-word" in build["secrets"]["netrc"], build["modes"]) == (pip, True, {0o600})
    assert not any(word in str([build["options"], build["args"]]) for word in ("hidden-word", "s3cret-word"))
    assert not any(Path(word.partition("src=")[2]).exists() for word in build["options"] if "src=" in word)
    assert tag_of(source, **params) == tag_of(source, **params | {"build_secrets": {"pip": "other", "netrc": "other"}})
    engine.images.clear()
    engine.fail_build = "no answer from https://me:hidden-word@pypi.example.com/simple | with s3cret-word and hidden-word"
    engine.fail_step = "RUN echo s3cret-word"
    with pytest.raises(ImageError) as error:
        deliver.present(FakeModule(source=str(source), repository="localhost/a", **params), engine)
    assert not any(word in str(error.value) + str(error.value.__cause__) for word in ("hidden-word", "s3cret-word"))


@pytest.mark.skipif(shutil.which("podman") is None or os.geteuid() != 0, reason="wants podman and root")
def test_podman_builds_with_a_secret_of_which_nothing_is_left(source: Path) -> None:
    engine, repository = Engine.find("podman"), f"localhost/flaskops-test-{os.getpid()}"
    if not engine.image_exists(image_build.DEBIAN_BASE):
        pytest.skip(f"{image_build.DEBIAN_BASE} is not on this machine: run `make up` first")
    (source / "docker").mkdir()
    (source / "docker/Web").write_text(
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE} AS web\nCOPY . /app\nRUN --mount=type=secret,id=word"
        " grep -q very- /run/secrets/word && ls -A /app >/listed\nFROM web AS broken\nCOPY gone.txt /\n"
    )
    (source / ".dockerignore").write_text("*\n!app.py\n")
    params: dict[str, Any] = {"source": str(source), "repository": repository, "containerfile": "docker/Web", "base": "debian"}
    params |= {"build_secrets": {"word": "very-s3cret-word"}}
    try:
        ref = deliver.present(FakeModule(**params, target="web"), engine)["image"]
        assert engine.run(["run", "--rm", "--network", "none", ref, "cat", "/listed"]).stdout.split() == [b"app.py"]
        told = engine.run(["history", "--no-trunc", ref]).stdout + engine.run(["image", "inspect", ref]).stdout
        left = engine.run(["run", "--rm", "--network", "none", ref, "sh", "-c", "ls /run/secrets/word || true"]).stdout
        assert b"s3cret" not in told and left == b""
        with pytest.raises(ImageError) as error:
            deliver.present(FakeModule(**params), engine)
    finally:
        for each in deliver.content_refs(engine, repository):
            engine.run(["rmi", "--force", each])
    said = str(error.value)
    assert "at step 'COPY gone.txt /' of" in said and "docker/Web: " in said and "no such file" in said and "\n" not in said
    assert "container_image." not in said and "exclude" in said, said


def test_credentials_of_the_tree_are_told_and_are_not_in_the_image(source: Path) -> None:
    before = tag_of(source)
    (source / ".env").write_text("PASSWORD=1")
    engine, module = FakeEngine(), FakeModule(source=str(source), repository="localhost/a")
    assert (deliver.present(module, engine)["tag"], ".env" in engine.builds[0]["files"]) == (before, False)
    assert ".env" in module.warnings[0] and "exclude" in module.warnings[0]
    back = FakeModule(source=str(source), repository="localhost/a", exclude=["!.env"])
    assert deliver.present(back, engine)["tag"] != before and ".env" in engine.builds[1]["files"] and not back.warnings


def test_a_copy_of_a_missing_file_says_what_may_hide_it(source: Path) -> None:
    engine = FakeEngine()
    engine.fail_build = (
        "'podman build' failed with status 125: Error: building at STEP \"COPY gone.txt .\": checking on sources under"
        ' "/x": copier: stat: "/gone.txt": no such file or directory'
    )
    engine.fail_step = "COPY gone.txt ."
    with pytest.raises(ImageError, match=r"'COPY gone.txt .' of \S+/Containerfile: checking .*no such file.*ignore file nor"):
        deliver.present(FakeModule(source=str(source), repository="localhost/a"), engine)


def test_the_installer_s_own_sentence_is_the_message(source: Path) -> None:
    engine = FakeEngine()
    engine.fail_build = "'podman build' failed: x | The application can't be installed: no git. Set y. | Error: at STEP"
    with pytest.raises(ImageError) as error:
        deliver.present(FakeModule(source=str(source), repository="localhost/a"), engine)
    assert str(error.value) == "The application can't be installed: no git. Set y."


def test_a_large_file_is_not_kept_in_memory(source: Path) -> None:
    with (source / "large.bin").open("wb") as file:
        file.truncate(300 << 20)
    program = (
        "import re, sys, tempfile\n"
        "from ansible_collections.flaskops.observability.plugins.module_utils.image.build_context import read_tree, write_tree\n"
        "tree, _ = read_tree(sys.argv[1], [])\n"
        "with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder: write_tree(tree, folder)\n"
        # Its own, not that of the process which it began as.
        "print(re.search('VmHWM:[^0-9]*([0-9]+)', open('/proc/self/status').read())[1])\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT / "collections")}
    done = subprocess.run([sys.executable, "-c", program, str(source)], env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 << 10  # KiB


def test_auto_falls_back_to_debian_with_a_warning(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(image_build, "debian_base", lambda engine, ref, include, again: made.append(ref) or True)
    engine, module = FakeEngine(), FakeModule(source=str(source), repository="localhost/a")
    engine.fail_pull = "no such host"
    assert deliver.present(module, engine)["base"] == image_build.DEBIAN_BASE
    assert made == [image_build.DEBIAN_BASE] and len(module.warnings) == 1


def test_a_given_base_stands_for_both_stages(source: Path) -> None:
    (source / "Containerfile").write_text("ARG BASE_IMAGE\nARG RUNTIME_IMAGE\nFROM ${BASE_IMAGE}\n")
    engine = FakeEngine()
    deliver.present(FakeModule(source=str(source), repository="localhost/a", build_args={"BASE_IMAGE": "mine:1"}), engine)
    assert engine.builds[0]["args"] == {"BASE_IMAGE": "mine:1", "RUNTIME_IMAGE": "mine:1"}
    assert engine.calls == []


def test_a_misspelt_base_image_is_not_papered_over(source: Path) -> None:
    engine = FakeEngine()
    engine.fail_pull = "manifest unknown"
    with pytest.raises(ImageError, match="correct base_image"):
        deliver.present(FakeModule(source=str(source), repository="localhost/a"), engine)


def test_a_broken_step_is_named(source: Path) -> None:
    engine = FakeEngine()
    engine.fail_build = "exit status 1"
    with pytest.raises(ImageError, match="at step 'RUN false'"):
        deliver.present(FakeModule(source=str(source), repository="localhost/a"), engine)


@pytest.mark.parametrize(
    ("containerfile", "trusting", "warned"),
    [
        ("ARG BASE_IMAGE\nARG RUNTIME_IMAGE\nFROM ${BASE_IMAGE}\n", ["BASE_IMAGE"], ""),
        ("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n", ["BASE_IMAGE"], "keeps this machine's certificates"),
        ("FROM python:3\n", [], "does not trust this machine's certificates"),
    ],
)
def test_a_docker_build_trusts_by_a_base_of_its_own(
    source: Path, monkeypatch: pytest.MonkeyPatch, containerfile: str, trusting: list[str], warned: str
) -> None:
    (source / "Containerfile").write_text(containerfile)
    (source / "bundle.pem").write_text("certificates")
    monkeypatch.setattr(host_module, "BUNDLES", ("/nowhere", str(source / "bundle.pem")))
    engine = FakeEngine(name="docker")
    given = {"BASE_IMAGE": "mine:1"} if "ARG" in containerfile else {}
    module = FakeModule(source=str(source), repository="localhost/a", trust_host_ca=True, build_args=given)
    deliver.present(module, engine)
    *made, app = engine.builds
    assert [build["args"] for build in made] == [{"BASE_IMAGE": "mine:1"}] * len(trusting)
    given = app["args"]
    assert [name for name in given if made and given[name] == made[0]["ref"]] == trusting
    assert given.get("RUNTIME_IMAGE", "mine:1") == "mine:1"
    assert (len(module.warnings), warned in "".join(module.warnings)) == (1 if warned else 0, True)


@pytest.mark.parametrize(
    ("containerfile", "args", "warned"),
    [
        (
            "ARG PIP_CERT\nARG SSL_CERT_FILE\nFROM x\n",
            {"PIP_CERT": image_build.CA_MOUNT, "SSL_CERT_FILE": image_build.CA_MOUNT},
            0,
        ),
        ("ARG PIP_CERT\nFROM x\n", {"PIP_CERT": image_build.CA_MOUNT}, 0),
        ("FROM x\n", {}, 1),
    ],
)
def test_a_podman_build_has_the_resolved_bundle_at_a_path_of_its_own(
    source: Path, monkeypatch: pytest.MonkeyPatch, containerfile: str, args: dict[str, str], warned: int
) -> None:
    """The image's own folder of certificates stays as it is; a link would lead out of what is mounted."""
    (source / "Containerfile").write_text(containerfile)
    (source / "extracted.pem").write_text("certificates")
    (source / "bundle.crt").symlink_to("extracted.pem")
    monkeypatch.setattr(host_module, "BUNDLES", ("/nowhere", str(source / "bundle.crt")))
    engine, module = FakeEngine(), FakeModule(source=str(source), repository="localhost/a", trust_host_ca=True)
    deliver.present(module, engine)
    assert engine.builds[0]["volumes"] == [f"{source / 'extracted.pem'}:{image_build.CA_MOUNT}:ro"]
    assert (engine.builds[0]["args"], len(module.warnings)) == (args, warned)
    assert not image_build.CA_MOUNT.startswith("/etc/")


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_a_machine_without_a_bundle_mounts_nothing(source: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (source / "Containerfile").write_text("ARG BASE_IMAGE\nARG PIP_CERT\nFROM ${BASE_IMAGE}\n")
    monkeypatch.setattr(host_module, "BUNDLES", ("/nowhere",))
    engine = FakeEngine({"docker.io/library/python:3.13-slim-bookworm"}, name)
    deliver.present(FakeModule(source=str(source), repository="localhost/a", trust_host_ca=True), engine)
    (build,) = engine.builds
    assert not build["volumes"] and build["args"] == {"BASE_IMAGE": "docker.io/library/python:3.13-slim-bookworm"}


def test_missing_inputs_are_one_sentence(tmp_path: Path) -> None:
    for params, text in [
        ({"source": str(tmp_path / "none")}, "is not a folder"),
        ({"source": str(tmp_path)}, "No Containerfile"),
        ({}, "nothing to build"),
        ({"containerfile_content": "FROM x", "extra_files": {"../x": ""}}, "relative paths"),
        ({"containerfile_content": "FROM x", "extra_folders": {"/x": "/tmp"}}, "relative paths"),
        ({"containerfile_content": "FROM x", "extra_folders": {"x": "/nowhere"}}, "which is not a folder"),
    ]:
        with pytest.raises(ImageError, match=text):
            image_inputs.inputs(FakeModule(repository="localhost/a", **params).params)


def test_credentials_stay_out_of_the_command_line() -> None:
    engine = FakeEngine()
    image_registry.push(engine, "registry.example.com/a:0123456789ab", "user", "s3cret")
    assert "s3cret" not in str(engine.calls) and "--authfile" in engine.calls[0]
    assert not os.path.exists(engine.calls[0][2])


def test_the_login_comes_from_two_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_IMAGE_REGISTRY_USERNAME", "user")
    monkeypatch.setenv("FLASK_IMAGE_REGISTRY_PASSWORD", "s3cret")
    with patch_module_args({"repository": "registry.example.com/a"}):
        found = AnsibleModule(argument_spec=container_image.ARGUMENTS["argument_spec"]).params
    assert (found["registry_username"], found["registry_password"]) == ("user", "s3cret")


@pytest.mark.parametrize(
    ("repository", "refused"),
    [
        *[
            (name, True)
            for name in ("shop", "me/shop", "docker.io/shop", "index.docker.io/me/shop", "localhost/shop:1", "r.test/Shop")
        ],
        *[
            (name, False)
            for name in ("localhost/shop", "localhost:5001/shop", "docker.io/me/shop", "r.test/shop", "r.test:5000/a/b/c")
        ],
    ],
)
def test_an_image_has_one_name_everywhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], repository: str, refused: bool
) -> None:
    """A node calls docker.io/shop docker.io/library/shop, and would never have what was imported."""
    monkeypatch.setattr(container_image, "bring", lambda module: {})
    with patch_module_args({"repository": repository}), pytest.raises(SystemExit):
        container_image.main()
    assert ("is not a full image name" in capsys.readouterr().out) == refused


@pytest.mark.parametrize("said", ["", "Treating single images as manifest lists is not implemented"])
def test_a_registry_that_knows_the_engine_s_login_is_asked_by_it(source: Path, said: str) -> None:
    """As one of a cloud, whose program gives the engine a login: what is there is neither built nor pushed again."""
    params = {"source": str(source), "repository": "registry.invalid/a", "delivery": "push"}
    engine = FakeEngine()
    first = deliver.present(FakeModule(**params), engine)
    assert first["changed"] and ["push", first["image"]] in engine.calls
    there = FakeEngine()
    there.pushed[first["image"]] = said
    assert not deliver.present(FakeModule(**params), there)["changed"] and not there.builds
    # Whoever names a login is not helped by another one.
    named = FakeModule(True, **params, registry_username="user", registry_password="s3cret")
    assert deliver.present(named, there)["delivered"]


class Registry(BaseHTTPRequestHandler):
    """A registry without TLS that has one tag."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/v2/a/manifests/0123456789ab" else 404)
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


def test_a_registry_on_loopback_is_asked_without_tls() -> None:
    """As kind's usual one at localhost:5001: what is there is not pushed again."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            repository = f"localhost:{server.server_port}/a"
            assert image_registry.in_registry(repository, "0123456789ab", None, None)
            assert not image_registry.in_registry(repository, "ba9876543210", None, None)
        finally:
            server.shutdown()


class Proxy(BaseHTTPRequestHandler):
    """Refuses everything; its server remembers what it was asked, and with which credentials."""

    def refuse(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        self.send_error(502)

    do_HEAD = do_GET = do_CONNECT = refuse

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "registry.invalid"])
def test_no_proxy_sees_the_credentials_of_a_registry_on_loopback(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Registry) as registry,
        ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy,
    ):
        proxy.asked = []  # type: ignore[attr-defined]
        # open_url leaves what it used, with its proxy, to all who ask for an address after it.
        monkeypatch.setattr("urllib.request._opener", None)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
        for server in (registry, proxy):
            Thread(target=server.serve_forever, daemon=True).start()
        try:
            found = image_registry.in_registry(f"{host}:{registry.server_port}/a", "0123456789ab", "user", "s3cret")
        finally:
            for server in (registry, proxy):
                server.shutdown()
    # Elsewhere the proxy is used, and is asked for a tunnel only.
    tunnel = [(f"{host}:{registry.server_port}", None)]
    assert (found, proxy.asked) == ((False, tunnel) if host == "registry.invalid" else (True, []))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("host", "engine", "args"),
    [
        ("localhost:5001", "podman", ["push", "--tls-verify=false"]),
        ("127.0.0.1:5001", "podman", ["push", "--tls-verify=false"]),
        ("localhost:5001", "docker", ["push"]),
        ("localhost.example.com", "podman", ["push"]),
        ("127.example.com", "podman", ["push"]),
        ("registry.example.com:5001", "podman", ["push"]),
    ],
)
def test_only_a_push_to_loopback_goes_without_tls(host: str, engine: str, args: list[str]) -> None:
    pushed = FakeEngine(name=engine)
    image_registry.push(pushed, f"{host}/a:0123456789ab", None, None)
    assert pushed.calls == [[*args, f"{host}/a:0123456789ab"]]


class Asked(BaseHTTPRequestHandler):
    """A registry with one tag, an index: as Docker's it gives that to those who take one, and who have a token of its own."""

    def do_HEAD(self) -> None:
        token = f"http://{self.headers['Host']}/token"
        if self.headers["Authorization"] != "Bearer t":
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="{token}",service="r"')
        else:
            self.send_response(200 if "application/vnd.oci.image.index.v1+json" in self.headers["Accept"] else 404)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.answer)  # type: ignore[attr-defined]

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "found"), [(b'{"token": "t"}', True), (b'{"access_token": "t"}', True), (b"[1]", False), (b"<html>", False)]
)
def test_an_index_is_an_image_that_is_there(monkeypatch: pytest.MonkeyPatch, answer: bytes, found: bool) -> None:
    """As docker pushes one where containerd keeps its images; the registry's tokens are given out beside it."""
    monkeypatch.setattr("urllib.request._opener", None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        server.answer = answer  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert image_registry.in_registry(f"localhost:{server.server_port}/a", "0123456789ab", "user", "s3cret") == found
        finally:
            server.shutdown()


def test_a_registry_s_own_authority_is_the_engine_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is not pushed again, whoever logs in."""
    certificate, key = (tmp_path / "server.crt", tmp_path / "server.key")
    for path, text in zip((certificate, key), fake_certificate("127.0.0.1"), strict=True):
        path.write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setattr("urllib.request._opener", None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            host = f"127.0.0.1:{server.server_port}"
            for known in (False, True):
                monkeypatch.setattr(image_registry, "AUTHORITIES", (str(tmp_path / "none"), str(tmp_path / "certs.d")))
                assert image_registry.in_registry(f"{host}/a", "0123456789ab", "user", "s3cret") == known
                (tmp_path / "certs.d" / host).mkdir(parents=True, exist_ok=True)
                (tmp_path / "certs.d" / host / "ca.crt").write_text(certificate.read_text())
        finally:
            server.shutdown()


def test_what_is_no_registry_has_no_image() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):
                connection, _address = server.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(b"SSH-2.0-x\r\n\r\n")

        Thread(target=answer, daemon=True).start()
        assert not image_registry.in_registry(f"127.0.0.1:{server.getsockname()[1]}/a", "0123456789ab", None, None)


DOCKER = """\
#!/bin/sh
[ "$1" = --config ] && cat "$2/config.json" && cat "$2/contexts/meta/one"
"""


def test_a_push_with_a_login_goes_to_the_daemon_of_docker_s_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Docker Desktop, colima and docker without root, whose daemon only a context names."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "own"))
    (tmp_path / "own/contexts/meta").mkdir(parents=True)
    (tmp_path / "own/contexts/meta/one").write_text("its endpoint")
    (tmp_path / "docker").write_text(f"{DOCKER}exit 1\n")
    (tmp_path / "docker").chmod(0o755)
    engine = Engine("docker", str(tmp_path / "docker"), {"PATH": "/usr/bin:/bin"})
    for own in ('{"currentContext": "one", "credsStore": "desktop"}', "{}", "no JSON"):
        (tmp_path / "own/config.json").write_text(own)
        with pytest.raises(ImageError) as printed:
            image_registry.push(engine, "registry.example.com/a:0123456789ab", "user", "s3cret")
        assert "its endpoint" in str(printed.value) and "credsStore" not in str(printed.value)
        assert ('"currentContext": "one"' in str(printed.value)) == ("one" in own)
    assert (tmp_path / "own/contexts/meta/one").read_text() == "its endpoint"


def test_absent_removes_only_content_tags() -> None:
    engine = FakeEngine({"localhost/a:0123456789ab", "localhost/a:latest", "localhost/b:0123456789ab"})
    result = deliver.absent(FakeModule(repository="localhost/a"), engine)
    assert result["removed"] == ["localhost/a:0123456789ab"]


def test_further_folders_are_part_of_the_context_and_of_the_tag(tmp_path: Path) -> None:
    (tmp_path / "lib/__pycache__").mkdir(parents=True)
    (tmp_path / "lib/a.py").write_text("1")
    (tmp_path / "lib/__pycache__/a.pyc").write_text("x")
    params = {"containerfile_content": "FROM x", "extra_folders": {"inside/lib": str(tmp_path / "lib")}}
    tree, text, *_ = image_inputs.inputs(FakeModule(repository="localhost/a", **params).params)
    assert list(tree) == ["inside/lib/a.py"]
    before = build_context.content_tag(tree, text, {}, "")
    (tmp_path / "lib/a.py").write_text("2")
    assert (
        build_context.content_tag(image_inputs.inputs(FakeModule(repository="localhost/a", **params).params)[0], text, {}, "")
        != before
    )
