# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead man's switch: what is outside the cluster and alarms when the alert Watchdog stops arriving there."""

from __future__ import annotations

from dataclasses import dataclass

from ..external_checks.client import CheckError
from ..external_checks.heartbeat import environment_of
from ..external_checks.model import Found, Gone, Provider, owner_tag
from ..external_checks.modules import KINDS
from ..external_checks.status import asked_of
from .app import Options

UNKNOWN = "no outside service that the drill knows has a dead man's switch of this cluster, so nobody in the cluster notices"


@dataclass(frozen=True)
class Switch:
    """One that was found, made of the heartbeats of the cluster at one provider.

    :param waits: seconds without a sign after which it alarms.
    """

    waits: float
    asked: Provider
    tag: str

    def alarms(self) -> bool:
        """Whether it alarms now.

        :raises CheckError: where the provider can't be asked.
        """
        return any(found.status == "down" for found in heartbeats(self.asked, self.tag))


def heartbeats(asked: Provider, tag: str) -> list[Found]:
    """The heartbeats with a tag. :raises CheckError: where the provider can't be asked."""
    # The kind says whether it is of the type that is managed here (model.kind_of), which is a heartbeat.
    return [found for found in asked.read_all(tag) if tag in found.tags and found.kind == "http"]


def find(options: Options) -> Switch:
    """The switch of a cluster among the outside services of the options.

    :raises LookupError: with the reason, where there is none.
    """
    reason = UNKNOWN
    for given in options.external_checks:
        kind = f"{given['provider']}_heartbeat"
        if kind not in KINDS:
            continue
        try:
            tag = owner_tag(environment_of(options.environment))
            asked = asked_of(kind, given["api_token"], given.get("api_url") or "", given.get("ca_path"))
            # The list does not tell how late one may be.
            each = [asked.read(found.id).options for found in heartbeats(asked, tag)]
            waits = [float((told["interval"] or 0) + (told["grace_period"] or 0)) for told in each]
        except Gone:
            continue  # somebody has just removed it
        except CheckError as error:
            reason = f"{UNKNOWN} ({error})"
            continue
        if waits:
            return Switch(min(waits), asked, tag)
    raise LookupError(reason)
