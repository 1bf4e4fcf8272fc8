# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stateful fakes of the three providers of external checks; README.md has the whole interface."""

from __future__ import annotations

from .core import Clock, Fake, Request
from .pingdom import PingdomFake
from .statuscake import StatusCakeFake
from .uptimerobot import UptimeRobotFake

FAKES: dict[str, type[Fake]] = {fake.provider: fake for fake in (UptimeRobotFake, PingdomFake, StatusCakeFake)}

__all__ = ["FAKES", "Clock", "Fake", "PingdomFake", "Request", "StatusCakeFake", "UptimeRobotFake"]
