# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets with a login and a certificate: what is wrong with them is said, and no value of them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.credentials import served

from tests.fakes.certificates import certificate

HOST = "logs.shop.svc"
PAIR, OTHER, ELSEWHERE = certificate(HOST), certificate(HOST), certificate("logs.elsewhere.svc")


def secret(name: str, **values: str) -> dict[str, Any]:
    data = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name}, "data": data}


def access(*found: dict[str, Any], login: str = "", tls: str = "", username: str = "", password: str = "") -> dict[str, str]:
    given = {"host": HOST, "namespace": "shop", "login": login, "tls": tls, "found": list(found)}
    return served.access({**given, "inline": {"username": username, "password": password}})


def pair(crt: str = PAIR[0], key: str = PAIR[1], ca: str = PAIR[0]) -> dict[str, Any]:
    return secret("tls", tls_crt=crt, tls_key=key, ca_crt=ca)


def test_what_a_client_needs() -> None:
    found = access(secret("login", username="ann", password="pä ss"), pair(), login="login", tls="tls")
    assert found == {"username": "ann", "password": "pä ss", "ca": PAIR[0], "problem": ""}
    assert access(username="ann", password="x")["password"] == "x"
    assert access()["problem"] == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "does not exist"),
        ([secret("login", username="ann")], "lacks password"),
        ([secret("login", username="", password="")], "lacks username and password"),
        ([secret("login", username="ann\n", password="CANARY")], "username with more than"),
        ([secret("login", username="$(CANARY)", password="CANARY")], "username with more than"),
        ([secret("login", username="ann", password="CANARY\n")], "line break"),
        ([secret("login", username="ann", password=" CANARY")], "space at its beginning"),
        ([{"metadata": {"name": "login"}, "data": {"username": "YW5u", "password": "/w=="}}], "password that is no text"),
    ],
)
def test_a_wrong_login(found: list[dict[str, Any]], words: str) -> None:
    problem = access(*found, login="login")["problem"]
    assert problem.startswith("Secret login in namespace shop") and words in problem and "CANARY" not in problem


def test_a_wrong_login_of_the_options() -> None:
    problem = access(username="ann", password="CANARY\n")["problem"]
    assert problem.startswith("The login holds a password") and "CANARY" not in problem


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "does not exist"),
        ([secret("tls", tls_crt=PAIR[0], tls_key=PAIR[1])], "lacks ca.crt"),
        ([pair(key=OTHER[1])], "no pair (KEY_VALUES_MISMATCH)"),
        ([pair(crt="x")], "no pair"),
        ([pair(ca="x")], "ca.crt that holds no certificate"),
        ([pair(ca=OTHER[0])], "self-signed certificate"),
        ([pair(*ELSEWHERE, ELSEWHERE[0])], "not valid for 'logs.shop.svc'"),
    ],
)
def test_a_wrong_certificate(found: list[dict[str, Any]], words: str) -> None:
    problem = access(*found, tls="tls")["problem"]
    assert problem.startswith("Secret tls in namespace shop") and words in problem, problem
