# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine is taken, what is said of one that is slow, and what of a build that failed.

The engines are scripts in PATH that answer as the real ones do.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.node import engine as engine_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import host as host_module
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import (
    BuildError,
    Engine,
    SlowEngineError,
    failed_step,
)
from ansible_collections.flaskops.observability.plugins.module_utils.node.images import stream

ROOT = Path(__file__).resolve().parents[3]
NODE = (("container", "c-node"), ("volume", "c-data"))
HANGS = "exec tail -f /dev/null"


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(**scripts: str) -> None:
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
            (tmp_path / name).chmod(0o755)

    return write


def has(*objects: str) -> str:
    """An engine with these objects."""
    cases = "".join(f"""'{each.replace(" ", " inspect ")}') echo '[{{"Name": "x"}}]';; """ for each in objects)
    return f'case "$*" in version*) echo 20.10;; {cases} *) exit 1;; esac'


@pytest.mark.parametrize(
    ("podman", "docker", "preferred", "taken"),
    [
        (has(), has("container c-node"), "auto", "docker"),
        (has(), has("volume c-data"), "auto", "docker"),
        (has("container c-node"), has("container c-node"), "auto", "podman"),
        (has(), has(), "auto", "podman"),
        (has(), has("container c-node"), "podman", "podman"),
        (has("container c-node"), has(), "docker", "docker"),
        (has(), "exit 1", "auto", "podman"),
    ],
)
def test_the_engine_that_has_the_node_is_taken(engines: Any, podman: str, docker: str, preferred: str, taken: str) -> None:
    engines(podman=podman, docker=docker)
    assert Engine.find(preferred, only=("podman", "docker"), having=NODE).name == taken


def test_every_role_follows_the_clusters_engine() -> None:
    found = {
        name: value
        for path in ROOT.glob("roles/*/defaults/main.yml")
        for name, value in (yaml.safe_load(path.read_text()) or {}).items()
        if name.endswith("_engine") and name != "local_cluster_engine"
    }
    assert set(found.values()) == {"{{ local_cluster_engine | default('auto') }}"}
    assert "flask_image_engine" in found


def test_a_slow_engine_is_no_lack_and_no_traceback(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_module.ASK_TIMEOUT >= 120  # seconds: 'podman info' of a busy machine took more than 30
    engines(podman=HANGS, docker=HANGS)
    monkeypatch.setattr(engine_module, "ASK_TIMEOUT", 0.2)
    monkeypatch.setattr(host_module, "ASK_TIMEOUT", 0.2)
    podman = Engine.find("podman")
    for ask in (lambda: host_module.machine(podman, build=True), lambda: podman.inspect("container", "c-node")):
        with pytest.raises(SlowEngineError, match=r"^'podman \w+' gave no answer within 0 s: podman hangs, or"):
            ask()
    with pytest.raises(SlowEngineError, match="'docker version' gave no answer"):
        Engine.find("docker")
    with pytest.raises(SlowEngineError, match="import of x:1 into c-node"):
        stream(podman, ["c-node"], "x:1", 0.2)


def test_an_engine_of_another_machine_is_refused(engines: Any) -> None:
    engines(docker='[ "$1" = version ] || echo /nowhere/docker')
    found = host_module.machine(Engine.find("docker"), build=True)
    said = "docker keeps its data in /nowhere/docker, which is not on this machine"
    assert [each for each in host_module.lacks(found, build=True) if said in each]


def test_the_environment_of_the_engines(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engines(podman="", docker="")
    monkeypatch.setenv("BUILDX_BUILDER", "other")
    assert Engine.find("docker").env["BUILDX_BUILDER"] == "default"
    assert Engine.find("podman").env["PODMAN_IGNORE_CGROUPSV1_WARNING"] == "1"
    assert "PODMAN_IGNORE_CGROUPSV1_WARNING" not in os.environ


def test_an_image_is_of_this_processor_where_no_other_is_asked_for(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says linux/amd64 for all of docker on a Mac would get an image that no node of it runs, by the name of one."""
    engines(docker="")
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/amd64")
    assert "DOCKER_DEFAULT_PLATFORM" not in Engine.find("docker").env


RUN = "RUN python3 -m venv /v && /v/bin/pip install flask==99"
REASON = "ERROR: No matching distribution found for flask==99"
SHELL = "/bin/sh -c python3 -m venv /v && /v/bin/pip install flask==99"
LEGACY = f"""\
Step 1/2 : FROM base
 ---> 9025f048ecc3
Step 2/2 : {RUN}
 ---> Running in f39982be7f82
\x1b[91mERROR: Could not find a version that satisfies the requirement flask==99 (from versions: 0.1)
\x1b[0m\x1b[91m{REASON}
\x1b[0mRemoving intermediate container f39982be7f82
"""
LEGACY_ERRORS = f"""\
DEPRECATED: The legacy builder is deprecated and will be removed in a future release.
            Install the buildx component to build images with BuildKit:

The command '{SHELL}' returned a non-zero code: 1
"""
# Of docker 20.10, whose excerpt has no line of the step, and of buildx, which ends with the Containerfile.
BUILDKIT = f"""\
#4 [1/2] FROM base
#4 DONE 0.0s

#5 [2/2] {RUN}
#5 sha256:b5c533efd5a54782a648ac3640098fdc2bc4819126f1f7fa4ab1795c9f3fcfd1
#5 5.740 ERROR: Could not find a version that satisfies the requirement flask==99 (from versions: 0.1)
#5 5.743 {REASON}
#5 ERROR: executor failed running [{SHELL}]: exit code: 1
------
 > [2/2] {RUN}:
------
executor failed running [{SHELL}]: exit code: 1
"""
BUILDX = f"""\
#6 [build 2/3] {RUN}
#6 5.743 {REASON}
#6 ERROR: process "{SHELL}" did not complete successfully: exit code: 1

#7 [build 3/3] COPY . /app
#7 CANCELED
------
 > [build 2/3] {RUN}:
5.743 {REASON}
------
Containerfile:2
--------------------
   1 |     FROM base
   2 | >>> {RUN}
   3 |     COPY . /app
   4 |     USER 10001
--------------------
ERROR: failed to build: failed to solve: process "{SHELL}" did not complete successfully: exit code: 1
"""
PODMAN = f"STEP 1/2: FROM base\nSTEP 2/2: {RUN}\nCollecting flask\n"
PODMAN_ERROR = f'Error: building at STEP "{RUN}": while running runtime: exit status 1\n'


@pytest.mark.parametrize(
    ("stdout", "stderr", "step", "first", "last"),
    [
        (LEGACY, LEGACY_ERRORS, RUN, f"The command '{SHELL}' returned a non-zero code: 1", REASON),
        ("", BUILDKIT, RUN, f"ERROR: executor failed running [{SHELL}]: exit code: 1", REASON),
        ("", BUILDX, RUN, f'ERROR: process "{SHELL}" did not complete successfully: exit code: 1', REASON),
        (PODMAN, f"{REASON}\n{PODMAN_ERROR}", RUN, PODMAN_ERROR.strip(), REASON),
        (f"{PODMAN}{REASON}\n", PODMAN_ERROR, RUN, PODMAN_ERROR.strip(), REASON),
        ("[1/2] STEP 2/3: COPY x y\n", "Error: no x\n", "COPY x y", "Error: no x", "Error: no x"),
        ("Step 2/2 : COPY x y\n", "COPY failed: no x\n", "COPY x y", "COPY failed: no x", "COPY failed: no x"),
        ("", "Error: no registry\n", "", "Error: no registry", "Error: no registry"),
    ],
)
def test_a_failed_build_says_why(stdout: str, stderr: str, step: str, first: str, last: str) -> None:
    found, lines = failed_step(stdout, stderr)
    assert (found, lines[0], lines[-1]) == (step, first, last)
    assert len(lines) <= 6


def test_the_cause_is_there_before_what_pip_says_of_itself() -> None:
    printed = [
        "Error: pg_config executable not found.",
        "",
        "It is required to build.",
        "Add its folder.",
        "Or install a binary.",
    ]
    around = [
        "error: metadata-generation-failed",
        "\u00d7 Encountered error",
        "╰─> See above for output.",
        "hint: See above for details.",
    ]
    _, lines = failed_step(PODMAN, "\n".join(printed + around) + f"\n{PODMAN_ERROR}")
    assert lines == [PODMAN_ERROR.strip(), *printed[:1], *printed[2:]]


def test_a_step_with_quotes_in_its_error() -> None:
    error = 'Error: building at STEP "COPY a b": checking on sources under "/x": copier: stat: "/a": no such file\n'
    assert failed_step("STEP 1/2: FROM x\nSTEP 2/2: COPY a b\n", error) == ("COPY a b", [error.strip()])


def test_the_failed_step_is_in_the_error(engines: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text(LEGACY)
    (tmp_path / "err").write_text(LEGACY_ERRORS)
    engines(docker=f'[ "$1" = version ] && exit; cat {tmp_path}/out; cat {tmp_path}/err >&2; exit 1')
    with pytest.raises(BuildError, match=REASON) as error:
        Engine.find("docker").build(str(tmp_path), "Containerfile", "x:1")
    assert error.value.step == RUN


def test_what_dockers_old_builder_can_not_do_is_told(engines: Any, tmp_path: Path) -> None:
    """D6: it leaves no container of a failed step, and finds no image of this machine where docker keeps them in containerd."""
    said = "failed to create snapshot: parent snapshot sha256:1234 does not exist: not found"
    engines(docker=f'[ "$1" = version ] && exit; echo "$*" > {tmp_path}/called; echo "{said}" >&2; exit 1')
    with pytest.raises(BuildError, match=r"parent snapshot .* install docker's package of buildx"):
        Engine.find("docker").build(str(tmp_path), "Containerfile", "x:1")
    assert "--force-rm" in (tmp_path / "called").read_text().split()


def test_selinux_lets_a_build_read_what_is_mounted(engines: Any, tmp_path: Path) -> None:
    """By an option of the build: a label (":z") would be set on this machine's own file."""
    engines(podman=f'echo "$*" > {tmp_path}/called', docker=f'[ "$1" = version ] || echo "$*" > {tmp_path}/called')
    for name, wanted in (("podman", True), ("docker", False)):
        Engine.find(name).build(str(tmp_path), "Containerfile", "x:1", volumes=["/a:/b:ro"])
        called = (tmp_path / "called").read_text()
        assert ("--security-opt label=disable --volume /a:/b:ro" in called) == wanted
        Engine.find(name).build(str(tmp_path), "Containerfile", "x:1")
        assert "label" not in (tmp_path / "called").read_text()


def test_what_a_killed_build_left_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """podman keeps its container, mounted. Another build, and one on an image that was not made here, are left to their work."""
    layers = {"1a": ["base"], "2b": ["base", "step"], "3c": ["python"], "localhost/flaskops/node-base:bookworm-1": ["base"]}
    for image, found in layers.items():
        (tmp_path / image.replace("/", "_")).write_text(json.dumps([{"RootFS": {"Layers": found}}]))
    (tmp_path / "ps").write_text(
        "buildah 1a a-working-container\nbuildah 2b b\nbuildah 3c python-working-container\nbash 1a mine\n"
    )
    (tmp_path / "images").write_text("localhost/flaskops/node-base:bookworm-1\ndocker.io/library/python:3.13\n<none>:<none>\n")
    begin, go_on = tmp_path / "begin", tmp_path / "go-on"
    for fifo in (begin, go_on):
        os.mkfifo(fifo)
    script = f"""#!/bin/sh
    case $1 in
    ps | images) cat {tmp_path}/$1;;
    image) cat "{tmp_path}/$(echo $3 | tr / _)";;
    build) echo > {begin}; read line < {go_on};;
    esac
    """
    (tmp_path / "podman").write_text(script)
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    engine = Engine.find("podman")
    assert engine.unfinished_builds() == ["a-working-container", "b"]
    with ThreadPoolExecutor() as pool:
        build = pool.submit(engine.build, str(tmp_path), "Containerfile", "localhost/x:1")
        begin.read_text()
        assert engine.unfinished_builds() == []
        go_on.write_text("\n")
        build.result()
    assert engine.unfinished_builds() == ["a-working-container", "b"]


def test_build_where_the_cache_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not noted then, so that nobody can tell whether one is at work."""
    (tmp_path / "podman").write_text(f'#!/bin/sh\n[ "$1" != build ] || echo "$@" > {tmp_path}/built\n')
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    engine = Engine.find("podman")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "podman"))
    engine.build(str(tmp_path), "Containerfile", "localhost/x:1")
    assert "localhost/x:1" in (tmp_path / "built").read_text()
    assert engine.unfinished_builds() == []
