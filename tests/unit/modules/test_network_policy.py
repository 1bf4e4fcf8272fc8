# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the node does where NetworkPolicies are to be enforced, by what the kernel can; nft and iptables are stand-ins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/local_cluster"
SCRIPT = ROLE / "files/node/scripts/network-policy.sh"


def run(folder: Path, nft: int, queue: int) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script where nft, and iptables' target NFQUEUE, end with these; and the rules that it made."""
    rules = folder / "rules"
    rules.touch()
    programs = {
        "nft": f"cat >/dev/null; exit {nft}",
        "iptables": f'echo "$*" >> {rules}; case "$*" in *NFQUEUE*) exit {queue};; esac',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, env=env)
    return done, rules.read_text().splitlines()


def test_kernel_with_the_queue_of_nftables_needs_no_rule(tmp_path: Path) -> None:
    done, rules = run(tmp_path, 0, 0)
    assert (done.returncode, done.stderr, rules) == (0, "", [])


def test_queue_of_iptables_takes_its_place(tmp_path: Path) -> None:
    """The same number as the program's, open without it; the node and connections that are made go past it."""
    done, rules = run(tmp_path, 1, 0)
    assert (done.returncode, done.stderr) == (0, "")
    (container,) = [
        item["spec"]["template"]["spec"]["containers"][0]
        for item in yaml.safe_load_all((ROLE / "files/node/etc/flaskops/network-policy.yaml").read_text())
        if item["kind"] == "DaemonSet"
    ]
    (number,) = [word.split("=")[1] for word in container["args"] if word.startswith("--nfqueue-id=")]
    assert f"-w -t mangle -A FLASKOPS-POLICY -j NFQUEUE --queue-num {number} --queue-bypass" in rules
    order = [rule for rule in rules if " -A POSTROUTING " in rule]
    assert ["LOCAL -j RETURN" in order[0], "RELATED -j RETURN" in order[1]] == [True, True]
    assert [rule.rsplit(maxsplit=1)[1] for rule in order[2:]] == ["FLASKOPS-POLICY"] * 2


def test_kernel_without_any_queue_is_refused_in_a_sentence(tmp_path: Path) -> None:
    done, _rules = run(tmp_path, 1, 1)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    for word in ("CONFIG_NFT_QUEUE", "CONFIG_NETFILTER_XT_TARGET_NFQUEUE", "local_cluster_enforce_network_policies"):
        assert word in said
