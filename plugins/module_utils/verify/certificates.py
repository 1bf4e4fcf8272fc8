# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a certificate says, read without a library: for which names it is, and how long.

Who signed it is not judged here. Python's ssl shows the fields only of a certificate that it has verified.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..kube.front import covers_host

ENOUGH = datetime.timedelta(days=14)
PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
# Tags of DER, and the identifier of the extension with the names.
VERSION, EXTENSIONS, OCTETS, GENERALIZED_TIME, DNS_NAME, IP_ADDRESS = 0xA0, 0xA3, 0x04, 0x18, 0x82, 0x87
ALTERNATIVE_NAMES = bytes((0x55, 0x1D, 0x11))


@dataclass(frozen=True)
class Certificate:
    """The names may be addresses too, and begin with ``*.``."""

    names: tuple[str, ...]
    since: datetime.datetime
    until: datetime.datetime


def first(text: str) -> Certificate:
    """The first certificate of a PEM text.

    :raises ValueError: where it has none.
    """
    found = PEM.search(text)
    if not found:
        raise ValueError("no certificate")
    return read(base64.b64decode(found[1]))


def read(der: bytes) -> Certificate:
    """A certificate in DER.

    :raises ValueError: where it is none.
    """
    try:
        (_, whole), *_ = _parts(der)
        (_, body), *_ = _parts(whole)
        fields = list(_parts(body))
        validity = [content for tag, content in fields if tag != VERSION][3]
        since, until = (_time(tag, content) for tag, content in _parts(validity))
        extensions = next((content for tag, content in fields if tag == EXTENSIONS), b"")
        return Certificate(tuple(_names(extensions)), since, until)
    except (IndexError, ValueError) as error:
        raise ValueError("no certificate") from error


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that stand one behind the other: the tag and the content of each."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        if at + length > len(data):
            raise ValueError("it is cut off")
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> datetime.datetime:
    form = "%Y%m%d%H%M%SZ" if tag == GENERALIZED_TIME else "%y%m%d%H%M%SZ"
    return datetime.datetime.strptime(content.decode("ascii"), form).replace(tzinfo=datetime.UTC)


def _names(extensions: bytes) -> Iterator[str]:
    for _, listed in _parts(extensions):
        for _, extension in _parts(listed):
            parts = list(_parts(extension))
            if parts[0][1] != ALTERNATIVE_NAMES:
                continue
            octets = next(content for tag, content in parts if tag == OCTETS)
            for _, names in _parts(octets):
                for tag, name in _parts(names):
                    if tag == DNS_NAME:
                        yield name.decode("ascii").lower()
                    elif tag == IP_ADDRESS:
                        yield str(ipaddress.ip_address(name))


def trouble(found: Certificate, host: str) -> str:
    """Why a certificate is not good for a host, as the rest of a sentence about it; empty where it is.

    It has to be valid for 14 days, or for a quarter of its life where that is less.
    """
    now = datetime.datetime.now(datetime.UTC)
    if not any(covers_host(name, host, labels=False) for name in found.names if name):
        return f"is for {', '.join(found.names[:4]) or 'no name'} and not for {host}"
    if now < found.since:
        return f"is valid from {found.since:%Y-%m-%d} on only"
    if now > found.until:
        return f"has expired on {found.until:%Y-%m-%d}"
    if found.until - now < min(ENOUGH, (found.until - found.since) / 4):
        return f"expires on {found.until:%Y-%m-%d}, and nobody has renewed it"
    return ""
