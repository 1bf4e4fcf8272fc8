# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a local cluster can't be made with. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import ipaddress
import re
import socket
import subprocess
from typing import Any

from . import registry_mirrors
from .host import command
from .node import INSIDE, ClusterError

WORKERS = 4  # at most
# Of a cluster, whose nodes are called <name>-node and <name>-worker-4: a host's name has at most 63 characters.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
NAME_LENGTH = 63 - len(f"-worker-{WORKERS}")


def check_options(params: dict[str, Any]) -> None:
    """Refuse values that no cluster can have.

    :raises ClusterError: for the first one.
    :raises MirrorError: for a mirror that can't work.
    """
    name = params["name"]
    if params["state"] == "present" and not (NAME.fullmatch(name) and len(name) <= NAME_LENGTH):
        raise ClusterError(
            f"The name '{name}' can't be used, because nodes are called by it: take at most {NAME_LENGTH} lower case letters,"
            " digits and dashes, with a letter or digit at both ends."
        )
    try:
        subnet = ipaddress.IPv4Network(params["subnet"])
        if subnet.prefixlen != 24 or not subnet.is_private:
            raise ValueError("it is no private /24")
    except ValueError as error:
        raise ClusterError(f"The subnet {params['subnet']} can't be used ({error}): name a private /24 network.") from error
    if not 0 <= params["workers"] <= WORKERS:
        raise ClusterError(f"The workers are {params['workers']}: choose from 0 to {WORKERS}.")
    if not 0 < params["api_port"] < 65536:
        raise ClusterError(f"The api_port {params['api_port']} is no port: choose one from 1 to 65535.")
    registry_mirrors.check(params["registry_mirrors"], str(subnet[1]))


def check_port(port: int) -> None:
    """Refuse a port that somebody else has.

    :raises ClusterError: where it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ClusterError(f"Port {port} of 127.0.0.1 is taken: choose another 'api_port'.") from error


def check_network(subnet: str, others: dict[str, str] | None = None) -> None:
    """Refuse a network that Kubernetes or this machine has another use for.

    :param others: the address ranges of the engine's networks, with their names.
    :raises ClusterError: with what has it.
    """
    wanted = ipaddress.ip_network(subnet)
    for kind, network in INSIDE.items():
        if network.overlaps(wanted):
            raise ClusterError(f"The address range {wanted} is in that of the {kind}, {network}: choose another 'subnet'.")
    for taken, name in (others or {}).items():
        if ipaddress.ip_network(taken, strict=False).overlaps(wanted):
            raise ClusterError(f"The address range {wanted} overlaps that of the network {name}: choose another 'subnet'.")
    # Of all tables: a VPN may have its own.
    routes = subprocess.run([str(command("ip")), "-4", "route", "show", "table", "all"], capture_output=True, text=True).stdout
    for line in routes.splitlines():
        if re.match("local |broadcast |multicast |anycast ", line):
            continue  # addresses, of a network that has a line of its own
        # A line begins with the network, or with the route's type ('blackhole', 'unreachable') and then the network.
        for found in re.findall(r"^(?:[a-z]+ )?(\d[\d./]+)", line):
            route = ipaddress.ip_network(found, strict=False)
            # A VPN that takes all traffic halves the default route.
            if route.prefixlen > 1 and route.overlaps(wanted):
                raise ClusterError(f"The address range {wanted} overlaps the route '{line.strip()}': choose another 'subnet'.")
