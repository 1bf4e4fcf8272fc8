# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine of this machine. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import IO, Any

from .._files import cache_dir, locked

ENGINES = ("podman", "docker", "buildah")

# podman's defaults ask for systemd, crun and raised limits; a host without systemd or with cgroup v1 has none of them.
_PLAIN_ENGINE = {"runtime": "runc", "cgroup_manager": "cgroupfs", "events_logger": "file"}
# The files that configure podman where CONTAINERS_CONF names none.
CONTAINERS_CONF = (Path("/usr/share/containers/containers.conf"), Path("/etc/containers/containers.conf"))
CONTAINERS_CONF_D = Path("/etc/containers/containers.conf.d")
ASK_TIMEOUT = 120  # seconds for what takes a moment, on a machine that is busy
PULL_TIMEOUT = 600
PID_MAX = Path("/proc/sys/kernel/pid_max")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_BOOTSTRAP = [
    *("--quiet", "--variant=minbase", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
    "--dpkgopt=path-exclude=/usr/share/locale/*",
]
# Of a failed build: what pip says around the cause, and the engines of each attempt; and what may be the cause.
_NOISE = re.compile(
    r"(note|hint): |[│╰─>]*\s*(See above|exit code: \d+$|\[(end|\d+ lines?) of output\])|time=\S+ level=warning"
    r"|error: (subprocess-exited-with-error|metadata-generation-failed)|[\u00d7╰]"
)
_CAUSE = re.compile(r"(?i)\berror\b|\bfatal\b|not found|no such file|denied|can(?:'|no)t\b")
REMOTE_PODMAN = "podman asks another machine: unset CONTAINER_HOST, or choose no remote connection"
# How the names of the bases begin that are made on this machine.
MADE_HERE = ("localhost/flaskops/node-base:", "localhost/python:")
_SCRIPT = 4096  # bytes, of a command that calls another one
LABEL = "io.flaskops.cluster"  # of all that the module local_cluster makes: the name of its cluster
CTR_IMAGES = ["ctr", "-n", "k8s.io", "images"]
# Of an archive at standard input. A node unpacks an image when the first container needs it, and most nodes need only some.
# Without --local the daemon does the same in twice the time.
IMPORT = ["import", "--local", "--no-unpack", "-"]


class EngineError(Exception):
    """One sentence that says what the engine refused and what it printed last."""


class SlowEngineError(EngineError):
    """The engine gave no answer in time, which tells nothing about what it would have answered."""


class BuildError(EngineError):
    """A build that failed; *step* is the Containerfile's, or empty where the engine names none."""

    def __init__(self, message: str, step: str) -> None:
        self.step = step
        super().__init__(message)


class NoEngineError(EngineError):
    """No engine can be used; *refused* says why for each."""

    def __init__(self, refused: list[str], wanted: str = "auto") -> None:
        self.refused = refused
        advice = "install podman or start docker" if wanted == "auto" else "mend that, or choose another engine"
        super().__init__(f"No container engine can be used ({'; '.join(refused)}): {advice}.")


class Engine:
    """podman, docker or buildah, called by its command line."""

    def __init__(self, name: str, path: str, env: dict[str, str]) -> None:
        self.name = name
        self.path = path
        self.env = env

    @classmethod
    def find(
        cls,
        preferred: str = "auto",
        cache: str | None = None,
        only: tuple[str, ...] = ENGINES,
        having: tuple[tuple[str, str], ...] = (),
        here: bool = False,
    ) -> Engine:
        """The preferred engine; without a preference the one that has an object of *having*, else the first one that answers.

        :param having: kinds and names, such as ``("container", "flaskops-node")``.
        :param here: what another machine has by these names is somebody else's.
        :raises NoEngineError: when none is installed, or answers, or only one of another machine has such an object.
        :raises SlowEngineError: when docker's daemon gives no answer in time and there is no other engine.
        """
        first, slow, refused = None, None, []
        names = only if preferred == "auto" else (preferred,)
        choice = sum(shutil.which(name) is not None for name in names) > 1
        for name in names:
            try:
                engine = cls._named(name, Path(cache) if cache else cache_dir())
                if choice and name == "podman":
                    engine.answers()
            except NoEngineError as error:
                refused += error.refused
                continue
            except SlowEngineError as error:
                slow = error
                continue
            asked = having if (choice or here) and name != "buildah" else ()
            if any(engine.inspect(*each) for each in asked):
                if problem := elsewhere(engine) if here else "":
                    refused.append(problem)
                    continue
                return engine
            first = first or engine
            if not choice or not having:
                return engine
        if first is None:
            raise slow or NoEngineError(refused, preferred)
        return first

    @classmethod
    def _named(cls, name: str, cache: Path) -> Engine:
        path = shutil.which(name)
        if path is None:
            raise NoEngineError([f"{name} is not installed"])
        engine = cls(name, path, _environment(name, cache))
        if name == "docker":
            if problem := _no_docker(Path(path)):
                raise NoEngineError([problem])
            engine.answers()
        return engine

    def answers(self) -> None:
        """Ask docker's daemon, or the machine that a remote podman is to use, whether it is there.

        :raises NoEngineError: where it is not.
        :raises SlowEngineError: where it gives no answer in time.
        """
        side = "Server" if self.name == "docker" else "Client"
        try:
            self.run(["version", "--format", f"{{{{.{side}.Version}}}}"], timeout=ASK_TIMEOUT)
        except SlowEngineError:
            raise
        except EngineError as error:
            raise NoEngineError([_no_answer(self.name, str(error))]) from error

    def run(
        self, args: list[str], input: bytes | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one engine command.

        :raises SlowEngineError: when it takes longer than *timeout* seconds.
        :raises EngineError: when it fails.
        """
        done = self._call(args, input, timeout)
        if done.returncode:
            # 'docker exec' says on stdout why a command could not be started.
            printed = done.stderr.strip() or done.stdout.strip()
            tail = " | ".join(printed.decode(errors="replace").splitlines()[-5:])
            raise EngineError(f"'{self.name} {' '.join(args[:2])}' failed with status {done.returncode}: {tail}")
        return done

    def _call(
        self, args: list[str], input: bytes | None, timeout: float | None, held: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [self.path, *args], input=input, capture_output=True, env=self.env, timeout=timeout, pass_fds=held
            )
        except subprocess.TimeoutExpired as error:
            raise SlowEngineError(
                f"'{self.name} {args[0]}' gave no answer within {timeout:.0f} s: {self.name} hangs, or this machine is too busy."
            ) from error

    def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        """What the engine says about an object; None where it has none of this name.

        :raises SlowEngineError: when it gives no answer.
        """
        done = self._call([kind, "inspect", name], None, ASK_TIMEOUT)
        return json.loads(done.stdout)[0] if done.returncode == 0 else None

    def labels(self, kind: str, name: str) -> dict[str, str] | None:
        """The labels of an object; None where the engine has none of this name."""
        found = self.inspect(kind, name)
        if found is None:
            return None
        return found.get("Labels") or found.get("labels") or found.get("Config", {}).get("Labels") or {}

    def subnets(self) -> dict[str, str]:
        """The address ranges of its networks, with their names; no route shows those without a running container."""
        names = self.run(["network", "ls", "--format", "{{.Name}}"], timeout=ASK_TIMEOUT).stdout.decode().split()
        found = json.loads(self.run(["network", "inspect", *names], timeout=ASK_TIMEOUT).stdout) if names else []
        return {
            subnet: str(network.get("name") or network.get("Name"))
            for network in found
            for subnet in re.findall(r'"subnet": "([\d./]+)"', json.dumps(network), re.IGNORECASE)
        }

    def node_images(
        self, node: str, *words: str, input: bytes | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``ctr images`` in a node of a local cluster, on the images that Kubernetes sees.

        :raises EngineError: as :meth:`run` does.
        """
        attach = [] if input is None else ["-i"]
        return self.run(["exec", *attach, node, *CTR_IMAGES, *words], input=input, timeout=timeout)

    def nodes(self, node: str) -> list[str]:
        """The running nodes of the local cluster that has the node *node*; only itself where it is not of such a cluster."""

        def running(label: str) -> set[str]:
            return set(
                self.run(["container", "ls", "--filter", f"label={label}", "--format", "{{.Names}}"]).stdout.decode().split()
            )

        every = running(LABEL)
        if every <= {node}:  # as on most machines, which are asked no more
            return [node]
        cluster = (self.labels("container", node) or {}).get(LABEL)
        return sorted({node, *(running(f"{LABEL}={cluster}") if cluster else ())})

    def image_exists(self, ref: str) -> bool:
        """Whether this machine has the image *ref*; asks no registry."""
        probe = ["inspect", "--type", "image", ref] if self.name == "buildah" else ["image", "inspect", ref]
        return subprocess.run([self.path, *probe], capture_output=True, env=self.env).returncode == 0

    def build(
        self,
        context: str,
        containerfile: str,
        ref: str,
        build_args: dict[str, str] | None = None,
        volumes: list[str] | None = None,
        options: list[str] | None = None,
    ) -> None:
        """Build *ref* from *context*.

        :param options: further words of the command.
        :raises BuildError: with the failing step and the last lines that it printed.
        """
        args = ["build", "--tag", ref, "--file", containerfile]
        if self.name == "docker":
            args.append("--force-rm")  # the legacy builder would leave the container of a step that fails
            for name in _proxies(self.env):
                args += ["--build-arg", name]
        else:
            # The network of the host: build steps need a package index, and no bridge of ours.
            args += ["--network", "host", "--layers"]
        for name, value in (build_args or {}).items():
            args += ["--build-arg", f"{name}={value}"]
        if volumes and self.name != "docker":
            # SELinux would deny the build what is mounted; a new label (":z") would be on this machine's own files.
            args += ["--security-opt", "label=disable", *(word for volume in volumes for word in ("--volume", volume))]
        with contextlib.ExitStack() as held:
            kept: tuple[int, ...] = ()
            with contextlib.suppress(OSError):  # the cache can't be written
                if lock := held.enter_context(locked(_builds(), shared=True)):
                    # The engine keeps it too: it goes on where this process is killed.
                    kept = (lock.fileno(),)
            done = self._call([*args, *(options or []), context], None, None, kept)
        if done.returncode:
            step, tail = failed_step(done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
            if self.name == "docker" and re.search("parent snapshot .* does not exist", " ".join(tail)):
                tail.append("docker's old builder does not find images of this machine: install docker's package of buildx")
            raise BuildError(f"'{self.name} build' failed with status {done.returncode}: {' | '.join(tail)}", step)

    def unfinished_builds(self) -> list[str]:
        """The containers that killed builds on images made here have left, which podman keeps mounted; none while one builds."""
        if self.name != "podman":
            return []
        with contextlib.ExitStack() as held:
            try:
                if not held.enter_context(locked(_builds(), wait=False)):
                    return []
            except OSError:  # where no build can note itself, none is known to have ended
                return []
            rows = self._rows("ps", "--all", "--external", "--format", "{{.Command}} {{.ImageID}} {{.Names}}")
            builds = {row[2]: self._layers(row[1]) for row in rows if len(row) == 3 and row[0] == "buildah"}
            names = [row[0] for row in self._rows("images", "--format", "{{.Repository}}:{{.Tag}}")] if builds else []
        # One that is further on has a name of its own, and the layers of its base.
        bases = [self._layers(name) for name in names if name.startswith(MADE_HERE)]
        return [name for name, layers in builds.items() if any(base and layers[: len(base)] == base for base in bases)]

    def _rows(self, *words: str) -> list[list[str]]:
        return [line.split() for line in self.run([*words], timeout=ASK_TIMEOUT).stdout.decode().splitlines()]

    def _layers(self, image: str) -> list[str]:
        found: list[str] = (self.inspect("image", image) or {}).get("RootFS", {}).get("Layers") or []
        return found


def _builds() -> Path:
    """The file that every build of ours has locked."""
    return cache_dir() / "building/images.lock"


def home(engine: Engine) -> tuple[str, str]:
    """The folder in which an engine keeps its data, and why that is not of this machine, or empty.

    :raises EngineError: when the engine does not tell.
    """

    def ask(*words: str) -> list[str]:
        return engine.run([*words], timeout=ASK_TIMEOUT).stdout.decode().strip().split("\n")

    if engine.name == "docker":
        endpoint = ask("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")[0]
        if re.match(r"ssh:|(tcp|https?)://(?!(localhost|127(\.\d+){3}|\[::1\]|0\.0\.0\.0)?(:|/|$))", endpoint):
            return "", f"docker runs at {endpoint}, not on this machine: unset DOCKER_HOST, or choose another docker context"
        told = ask("info", "--format", "{{.DockerRootDir}}\n{{.OperatingSystem}}\n{{.KernelVersion}}\n{{.SecurityOptions}}")
        folder, system, kernel, security = [*told, "", "", ""][:4]
        if system == "Docker Desktop":
            return "", "Docker Desktop is a virtual machine: use its own Kubernetes by INVENTORY=inventories/docker-desktop"
        if "name=rootless" in security:
            return (
                "",
                "docker runs without root's rights, which a node needs: unset DOCKER_HOST, or choose another docker context",
            )
        if kernel and kernel != _three_numbers(platform.release()):
            return (
                "",
                f"docker runs in a virtual machine, with Linux {kernel}: choose the docker context of an engine that runs here",
            )
    else:
        folder, *remote = ask("info", "--format", "{{.Store.GraphRoot}}\n{{.Host.ServiceIsRemote}}")
        if "true" in remote:
            return "", REMOTE_PODMAN
    with contextlib.suppress(PermissionError):  # of a folder that only root sees, as it is with userns-remap
        if not Path(folder).is_dir():
            return "", f"{engine.name} keeps its data in {folder}, which is not on this machine: use an engine that runs here"
    return folder, ""


def elsewhere(engine: Engine) -> str:
    """Why an engine is not of this machine; empty where it is, and where it does not tell, which its next command says."""
    try:
        if engine.name == "podman":  # which takes several times as long to tell its folder
            asked = engine.run(["version", "--format", "{{if .Server}}remote{{end}}"], timeout=ASK_TIMEOUT).stdout.strip()
            return REMOTE_PODMAN if asked else ""
        return home(engine)[1]
    except SlowEngineError:
        raise
    except EngineError:
        return ""


def _three_numbers(release: str) -> str:
    """A kernel's release as docker writes it, with a third number."""
    return re.sub(r"^(\d+\.\d+)(?!\.?\d)", r"\1.0", release)


def _proxies(env: dict[str, str]) -> list[str]:
    """The variables of proxies that the steps of docker's builds need; podman gives them to its own by itself.

    A proxy on loopback is not there for a step, and where docker's own configuration names some, it gives those.
    """
    if docker_config()[1].get("proxies"):
        return []
    names = [case(f"{kind}_proxy") for kind in ("http", "https", "no") for case in (str.lower, str.upper)]
    given = [name for name in names if env.get(name)]
    return [] if any(re.search(r"//(\S+@)?(localhost|127\.|\[::1\])", env[name]) for name in given) else given


def docker_config() -> tuple[Path, dict[str, Any]]:
    """The folder of this user's configuration of docker, and the settings in it; empty where there are none, or no mapping."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"))
    try:
        found = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        found = None
    return folder, found if isinstance(found, dict) else {}


def _no_docker(path: Path) -> str:
    """Why the command docker is none that can be used, or empty."""
    real = path.resolve()
    if path.parent.parts[-2:] == ("snap", "bin") or real.name == "snap" or real.parent.parts[-2:] == ("snap", "bin"):
        return "docker is a snap, which can't read the folders that images are built from: install another package of it"
    with contextlib.suppress(OSError):
        if real.name == "podman" or (
            real.stat().st_size < _SCRIPT and re.search(rb'(?m)^[^#\n]*\bpodman "\$@"', real.read_bytes())
        ):
            return "docker is podman by another name (package podman-docker): choose podman, or install docker itself"
    return ""


def _no_answer(name: str, error: str) -> str:
    """What to say of an engine that did not tell its version."""
    daemon = f"{name} is installed but {'its daemon' if name == 'docker' else 'it'} does not answer"
    if "permission denied" in error.lower():
        return f"{daemon} this user"
    said = re.sub("^Error response from daemon: ", "", error.split(": ", 1)[-1]).rstrip(". ")
    if re.search("client version .* is too (old|new)", said):
        return f"docker's daemon refuses its command, which is of another version ({said})"
    if not said or "Is the docker daemon running" in said:
        return daemon
    return f"{daemon} ({said})"


def failed_step(stdout: str, stderr: str) -> tuple[str, list[str]]:
    """The step at which a build failed, and what the engine says of it before the last lines that the step printed.

    BuildKit prints all to stderr, the lines of step N after ``#N``, and ends with an excerpt of the Containerfile. The legacy
    builder prints the step and its output to stdout. podman and buildah print a step's streams as they are.
    """
    out, err = (
        [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines() if line.strip()] for text in (stdout, stderr)
    )
    if failed := [found for line in err if (found := re.match(r"#\d+ (?=ERROR: )", line))]:
        own = [line.removeprefix(failed[-1][0]) for line in err if line.startswith(failed[-1][0])]
        heads = [line.split("] ", 1)[1] for line in own if re.match(r"\[.*\d+/\d+\] ", line)]
        printed = [line.split(" ", 1)[1] for line in own if re.match(r"\d+\.\d+ \S", line)]
        return (heads or [""])[0], [line for line in own if line.startswith("ERROR: ")] + telling(printed)
    steps = [number for number, line in enumerate(out) if re.match(r"(\[\d+/\d+\] )?(Step|STEP) \d+(/\d+)? ?: ", line)]
    step = out[steps[-1]].split(": ", 1)[1] if steps else ""
    printed = out[steps[-1] + 1 :] if steps else out
    printed = [line for line in printed if not re.match(r" ---> |Removing intermediate container ", line)]
    if err and re.search(r"returned a non-zero code: \d+$", err[-1]):
        return step, err[-1:] + telling(printed)
    if err and (named := re.search(r'STEP "(.+)":', err[-1])):
        return (step if f'STEP "{step}":' in err[-1] else named[1]), err[-1:] + telling(err[:-1] or printed)
    return step, telling(err) or telling(printed)


def telling(lines: list[str]) -> list[str]:
    """The end of what a step printed, and before it what names an error: pip says last that it is not to blame."""
    own = [line for line in lines if not _NOISE.match(line.strip())] or lines
    return [line for line in own[:-3] if _CAUSE.search(line)][-2:] + own[-3:]


def plain_host() -> bool:
    """Whether podman and buildah need a configuration of ours here, as nobody has named one.

    Elsewhere than on Linux they ask a virtual machine, which their own configuration may name.
    """
    if platform.system() != "Linux":
        return False
    complete = Path("/run/systemd/system").exists() and Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return not complete and "CONTAINERS_CONF" not in os.environ


def _environment(name: str, cache: Path) -> dict[str, str]:
    env = dict(os.environ)
    if name != "docker" and plain_host():
        conf, text = cache / "containers.conf", _plain_conf(env)
        if not conf.exists() or conf.read_text() != text:
            conf.parent.mkdir(parents=True, exist_ok=True)
            # At once: another podman may be reading it.
            with tempfile.NamedTemporaryFile("w", dir=conf.parent, prefix=".containers-", delete=False) as file:
                file.write(text)
            os.replace(file.name, conf)
        env["CONTAINERS_CONF"] = str(conf)
    if name == "docker":
        # A builder in a container sees no base image of this machine, and keeps the result for itself.
        env |= {"BUILDX_BUILDER": "default", "BUILDKIT_PROGRESS": "plain"}
        # Where somebody wants images of another processor, that is an option, and in the name of the image.
        env.pop("DOCKER_DEFAULT_PLATFORM", None)
    else:
        env["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"  # podman 5 would begin every message with it
    return env


def _plain_conf(env: dict[str, str]) -> str:
    """podman's own configuration with what a plain host needs; it stands in the place of all of its files.

    podman 5 raises the limits that are not named when it builds, so they are named as this process has them.
    """
    tables = configured(env)
    tables["containers"] = tables.get("containers", {}) | {"default_ulimits": _limits()}
    tables["engine"] = tables.get("engine", {}) | _PLAIN_ENGINE
    lines = ([f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in values.items())] for table, values in tables.items())
    return "\n".join(line for each in lines for line in each) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def configured(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What podman's files of configuration say, of which the last counts; about what is no TOML podman itself complains."""
    files = [*CONTAINERS_CONF, *sorted(CONTAINERS_CONF_D.glob("*.conf"))]
    if os.geteuid():
        files.append(Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers/containers.conf")
    if named := env.get("CONTAINERS_CONF"):
        files = [Path(named)]
    if last := env.get("CONTAINERS_CONF_OVERRIDE"):
        files.append(Path(last))
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            for table, values in tomllib.loads(file.read_text()).items():
                if isinstance(values, dict):
                    found[table] = found.get(table, {}) | values
    return found


def _limits() -> list[str]:
    """The limits that podman has, and would raise, as podman writes them. It lowers that of processes to the kernel's pid_max."""
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    known = {name: limit for name, limit in hard.items() if limit != resource.RLIM_INFINITY}
    pids = int(PID_MAX.read_text())
    known["nproc"] = min(known.get("nproc", pids), pids)
    return [f"{name}={limit}:{limit}" for name, limit in known.items()]


def debian_ref(name: str, include: list[str]) -> str:
    """The name of an image that :func:`debian_base` makes; its tag says how it is made."""
    how = json.dumps([_BOOTSTRAP, include, "plain archive"])
    return f"localhost/{name}:bookworm-{hashlib.sha256(how.encode()).hexdigest()[:12]}"


def debian_base(engine: Engine, ref: str, include: list[str], again: bool = False) -> bool:
    """Make a Debian image with *include* by mmdebstrap, where no registry has one.

    :param again: make it though it is here, of what Debian's mirror has now.
    :returns: whether it was made now.
    :raises EngineError: when mmdebstrap or Debian's keys are missing, or it fails.
    """
    if engine.image_exists(ref) and not again:
        return False
    mmdebstrap = shutil.which("mmdebstrap")
    if mmdebstrap is None:
        raise EngineError(f"The base image {ref} cannot be made: install mmdebstrap, or name an image that a registry has.")
    if not KEYRING.exists():
        raise EngineError(f"The base image {ref} cannot be made: {KEYRING} is missing, install Debian's keys.")
    # It would need gpg to find out that the keys which apt has here are another distribution's.
    bootstrap = [mmdebstrap, *_BOOTSTRAP, f"--keyring={KEYRING}", f"--include={','.join(include)}", "bookworm", "-"]
    load = [engine.path, "import", "-", ref]
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as load_log:
        with (
            subprocess.Popen(bootstrap, stdout=subprocess.PIPE, stderr=log) as source,
            subprocess.Popen(load, stdin=subprocess.PIPE, stdout=load_log, stderr=load_log, env=engine.env) as target,
        ):
            assert source.stdout and target.stdin
            broken = ""
            try:
                plain_archive(source.stdout, target.stdin)
            except (tarfile.TarError, OSError) as error:  # one of the two has ended, and says why
                broken = str(error)
            source.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                target.stdin.close()
        printed = []
        for file in (log, load_log):
            file.seek(0)
            printed += file.read().decode(errors="replace").strip().splitlines()[-3:]
    if source.returncode or target.returncode or broken:
        raise EngineError(f"The base image {ref} could not be made by mmdebstrap: {' | '.join(printed) or broken}")
    return True


def plain_archive(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a tar archive, its sparse files written out.

    mmdebstrap 1.6 leaves the holes of files out, and what the engines rebuild of such a layer is longer than what they took in.
    """
    with (
        tarfile.open(fileobj=source, mode="r|") as archive,
        tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as copy,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if member.issparse():
                member.type = tarfile.REGTYPE
            # The other headers are those of the fields, which are written again.
            member.pax_headers = {key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")}
            copy.addfile(member, content)
