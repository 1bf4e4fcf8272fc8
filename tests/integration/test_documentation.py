# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands and queries of docs/monitoring.md do what it says, on the cluster that `site.yml` has made."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT, Cluster, until

sys.path.insert(0, str(ROOT / "tests/bench"))
import loss

TEXT = (ROOT / "docs/monitoring.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
TABLE = TEXT.split("### Looking for something")[1].split("\n\n")[2]
# The second column's code, where Markdown wants a bar escaped.
QUERIES = [row.split(" | ")[1].strip("`").replace("\\|", "|") for row in TABLE.splitlines()[2:]]
# What a block needs that is not in every cluster: its first command, or a namespace.
NEEDS = {
    "aws ": "an AWS account",
    "-n elastic ": "Elasticsearch, whose images no package registry carries",
    "--from-file": "a file of one's own, with credentials",
}


@pytest.fixture(scope="module")
def request_id(cluster: Cluster) -> str:
    """The id of requests whose lines are in VictoriaLogs."""
    found, logs = uuid.uuid4().hex, loss.Cluster(cluster.api, "victoria-logs/victoria-logs", "", "")
    address = cluster.address("flask-app", "flask-app")
    request = urllib.request.Request(f"http://{address}/", headers={"X-Request-ID": found})
    # As many as lead to every pod: one that has served nothing has no series to show.
    for _ in range(20):
        urllib.request.urlopen(request, timeout=10).read()
    until(lambda: logs.lines(f'{{namespace="flask-app"}} request_id:="{found}"'), 60, "the line's arrival")
    return found


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A shell in which kubectl means the cluster; what it started in the background ends with it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops/bin"
    tools = [str(path.parent) for name in ("kubectl", "amtool") for path in cache.glob(f"*/{name}")]
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": ":".join([*tools, os.environ["PATH"]])}
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail"],
        cwd=tmp_path,
        env=env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    yield process
    # Nobody is left where the shell has ended and started nothing in the background.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("block", BLOCKS, ids=[" ".join(block.split()[:6]) for block in BLOCKS])
def test_commands(cluster: Cluster, shell: subprocess.Popen[str], request_id: str, block: str) -> None:
    """Each ends with status 0 and prints something; a forwarded port is waited for, as people do."""
    for needle, what in NEEDS.items():
        if needle in block:
            pytest.skip(f"commands of docs/monitoring.md that need {what}")
    assert shutil.which("curl"), "curl is not installed"
    assert shell.stdin and shell.stdout
    # However the shell ends, what runs in the background would hold its output open.
    shell.stdin.write("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n")
    for line in block.replace('"ID"', f'"{request_id}"').splitlines():
        shell.stdin.write(f"{line}\n")
        shell.stdin.flush()
        if forwarded := re.search(r"port-forward \S+ ([0-9]+) &$", line):
            until(lambda port=int(forwarded[1]): answers(port), 15, f"the answer to {line}", 0.1)
    output, _nothing = shell.communicate(timeout=120)
    said = [line for line in output.splitlines() if not line.startswith(("Forwarding from", "Handling connection"))]
    assert shell.wait(60) == 0 and said, output
    if request_id in block.replace('"ID"', f'"{request_id}"'):
        assert request_id in "\n".join(said), output


@pytest.mark.parametrize("query", QUERIES)
def test_queries_are_answered(cluster: Cluster, request_id: str, query: str) -> None:
    logs = loss.Cluster(cluster.api, "victoria-logs/victoria-logs", "", "")
    asked = query.replace('"ID"', f'"{request_id}"')
    # There need not be an error; whatever every application logs must be found.
    assert logs.lines(asked) or re.search("error|Traceback|>=500", query), query


def test_there_is_something_to_run() -> None:
    assert len(BLOCKS) >= 5 and len(QUERIES) == 6 and QUERIES[0] == '{namespace="flask-app"} request_id:="ID"'
