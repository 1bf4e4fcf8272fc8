# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One list of checks for every provider: neutral options, and the provider's own. Private to this collection.

What a provider can't do is an error, or, where that was accepted, a downgrade with a warning.
"""

from __future__ import annotations

import http
import ipaddress
from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import urlsplit

from . import pingdom, statuscake
from .client import CheckError

TITLES = {"uptimerobot": "UptimeRobot", "pingdom": "Pingdom", "statuscake": "StatusCake"}
DOWNGRADES = ["interval", "timeout", "expected_status", "regions", "tls_expiry_days"]
REGIONS = ["north_america", "south_america", "europe", "asia", "oceania"]
# StatusCake names cities and not continents.
PROVIDER_REGIONS: dict[str, dict[str, str]] = {
    "uptimerobot": {"north_america": "na", "europe": "eu", "asia": "as", "oceania": "oc"},
    "pingdom": {"north_america": "NA", "south_america": "LATAM", "europe": "EU", "asia": "APAC", "oceania": "APAC"},
    "statuscake": {},
}
INTERVALS = {"pingdom": pingdom.INTERVALS, "statuscake": statuscake.INTERVALS}
TIMEOUTS = {"uptimerobot": (1, 60), "pingdom": (1, 30), "statuscake": (5, 75)}
SAME = ("name", "url", "keyword", "keyword_match", "tags", "http_username", "http_password", "request_body")
# StatusCake is told what counts as down: of these, what isn't expected.
STATUS_CODES = sorted(
    {str(code.value) for code in http.HTTPStatus if code >= 200}
    | {str(code) for code in (444, 494, 495, 496, 499, 509, 520, 521, 522, 523, 524, 598, 599)}
)


class Translation:
    """A neutral check as one provider's options; warnings tell what was accepted to be less."""

    def __init__(self, provider: str, check: dict[str, Any], downgrade: Collection[str]) -> None:
        self.provider, self.check, self.downgrade = provider, check, set(downgrade)
        self.title, self.label = TITLES[provider], f"check {check['name']!r}"
        self.own: dict[str, Any] = check.get(provider) or {}
        self.warnings: list[str] = []
        self.options: dict[str, Any] = {name: check[name] for name in SAME if check.get(name) is not None}
        for name in ("interval", "timeout", "expected_status", "regions", "tls_expiry_days", "contacts"):
            if check.get(name) is not None:
                getattr(self, f"_{name}")(check[name])
        self.options.update({name: value for name, value in self.own.items() if value is not None})

    def _less(self, option: str, instead: str, what: str) -> None:
        """Accept less than was wanted, or refuse it."""
        if option not in self.downgrade:
            raise CheckError(f"The {self.label} is refused: {self.title} {what}: change {option}, or add it to downgrade")
        self.warnings.append(f"{self.title} {what}; the {self.label} has {instead}.")

    def _interval(self, seconds: int) -> None:
        allowed = INTERVALS.get(self.provider)
        if allowed and seconds not in allowed:
            less = next((item for item in allowed if item >= seconds), allowed[-1])
            self._less("interval", f"{less} s", f"has no interval of {seconds} s (it has {', '.join(map(str, allowed))})")
            seconds = less
        self.options["interval"] = seconds

    def _timeout(self, seconds: int) -> None:
        low, high = TIMEOUTS[self.provider]
        if not low <= seconds <= high:
            less = min(max(seconds, low), high)
            self._less("timeout", f"{less} s", f"has no timeout of {seconds} s (it takes {low} to {high})")
            seconds = less
        self.options["check_timeout"] = seconds

    def _expected_status(self, codes: list[str]) -> None:
        if self.provider == "uptimerobot":
            self.options["expected_status_codes"] = codes
        elif self.provider == "statuscake":
            if "down_status_codes" not in self.own:
                self.options["down_status_codes"] = [code for code in STATUS_CODES if not expects(codes, code)]
        else:
            self._less("expected_status", "Pingdom's own", "can't be told which status codes are good")

    def _regions(self, regions: list[str]) -> None:
        if "regions" in self.own:
            return
        known = PROVIDER_REGIONS[self.provider]
        theirs = sorted({known[region] for region in regions if region in known})
        missing = [region for region in regions if region not in known]
        if missing:
            self._less("regions", f"{', '.join(theirs) or 'its own choice'}", f"has no region {', '.join(missing)}")
        elif self.provider == "pingdom" and len({"asia", "oceania"} & set(regions)) == 1:
            self._less("regions", ", ".join(theirs), "has Asia and Oceania only together")
        if theirs:
            self.options["regions"] = theirs

    def _tls_expiry_days(self, days: int) -> None:
        if self.provider == "uptimerobot":
            self.options["tls_expiry_days"] = [days] if days else []
        elif self.provider == "pingdom":
            self.options["tls_expiry_days"] = days
        else:
            if days:
                self._less("tls_expiry_days", "its own days", "can't be told how many days before the certificate ends to alert")
            self.options["tls_alert"] = bool(days)

    def _contacts(self, contacts: list[str]) -> None:
        if self.provider == "uptimerobot":
            self.options["contacts"] = [{"contact": contact, "delay": 0, "repeat": 0} for contact in contacts]
        else:
            self.options["contacts"] = contacts


def expects(codes: Iterable[str], code: str) -> bool:
    """Tell whether a status code is one of codes, which may hold classes like 2xx."""
    return code in codes or f"{code[0]}xx" in [str(item).lower() for item in codes]


def neutral_of(provider: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a provider's options in neutral words, as far as there are any."""
    found = {name: options[name] for name in (*SAME, "interval", "paused") if name in options}
    if "check_timeout" in options:
        found["timeout"] = options["check_timeout"]
    if "expected_status_codes" in options:
        found["expected_status"] = sorted(options["expected_status_codes"])
    if "down_status_codes" in options:
        good = [code for code in STATUS_CODES if code not in options["down_status_codes"]]
        whole = [digit for digit in "2345" if all(code in good for code in STATUS_CODES if code[0] == digit)]
        found["expected_status"] = sorted([f"{digit}xx" for digit in whole] + [code for code in good if code[0] not in whole])
    if "regions" in options:
        theirs = PROVIDER_REGIONS[provider]
        found["regions"] = sorted(region for region in theirs if theirs[region] in options["regions"])
    days = options.get("tls_expiry_days")
    if days is not None:
        found["tls_expiry_days"] = max(days, default=0) if isinstance(days, list) else days
    if "contacts" in options:
        contacts = [item["contact"] if isinstance(item, dict) else item for item in options["contacts"]]
        found["contacts"] = sorted(str(contact) for contact in contacts)
    return found


def check_public(url: str, label: str) -> None:
    """Refuse an address that nobody outside can reach."""
    host = urlsplit(url).hostname or ""
    try:
        private = not ipaddress.ip_address(host).is_global
    except ValueError:
        private = host == "localhost" or host.endswith((".local", ".internal", ".svc", ".localhost")) or "." not in host
    if private:
        raise CheckError(
            f"The {label} is refused: {host} can't be reached from the internet:"
            " give a public url, or set allow_private_urls to true"
        )
