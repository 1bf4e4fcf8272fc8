# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead man's switch: what is outside the cluster and alarms when the alert Watchdog stops arriving there."""

from __future__ import annotations

from dataclasses import dataclass

from ..external_checks.client import CheckError
from ..external_checks.heartbeat import environment_of
from ..external_checks.model import Found, Provider, owner_tag
from ..external_checks.status import asked_of
from .app import Options

# The providers that have monitors which are down when nobody calls their address in time, and the type of these.
HEARTBEATS = {"uptimerobot": "HEARTBEAT"}
UNKNOWN = "no outside service that the drill knows has a dead man's switch of this cluster, so nobody in the cluster notices"


@dataclass(frozen=True)
class Switch:
    """One that was found, made of the heartbeats of the cluster at one provider.

    :param waits: seconds without a sign after which it alarms.
    """

    waits: float
    asked: Provider
    tag: str
    kind: str

    def alarms(self) -> bool:
        """Whether it alarms now.

        :raises CheckError: where the provider can't be asked.
        """
        return any(found.status == "down" for found in heartbeats(self.asked, self.tag, self.kind))


def heartbeats(asked: Provider, tag: str, kind: str) -> list[Found]:
    """The heartbeats with a tag. :raises CheckError: where the provider can't be asked."""
    return [found for found in asked.read_all(tag) if tag in found.tags and found.kind == kind]


def find(options: Options) -> Switch:
    """The switch of a cluster among the outside services of the options.

    :raises LookupError: with the reason, where there is none.
    """
    reason = UNKNOWN
    for given in options.external_checks:
        kind = HEARTBEATS.get(given["provider"])
        if kind is None:
            continue
        try:
            tag = owner_tag(environment_of(options.environment))
            asked = asked_of(given["provider"], given["api_token"], given.get("api_url") or "", given.get("ca_path"))
            waits = [float(patience(asked, found)) for found in heartbeats(asked, tag, kind)]
        except CheckError as error:
            reason = f"{UNKNOWN} ({error})"
            continue
        if waits:
            return Switch(min(waits), asked, tag, kind)
    raise LookupError(reason)


def patience(asked: Provider, found: Found) -> int:
    """Seconds for which a heartbeat waits: its interval, and what it may be late."""
    body = asked.client.request("GET", f"{asked.path}/{found.id}", answer=dict)
    return int(body.get("interval") or 0) + int(body.get("gracePeriod") or 0)
