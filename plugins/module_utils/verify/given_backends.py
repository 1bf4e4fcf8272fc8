# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log back ends that the user names: what is wrong with what is given, and how they are asked.

The scheduled verification has them in a file, whose content no message shows.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..credentials.guard import basic, is_address, is_header, is_token, login_secrets, opener
from ..credentials.served import SecretError, texts
from ..kube.transport import REQUEST_SECONDS, ApiError, reason
from . import log_stores

if TYPE_CHECKING:
    from .run import Run

FILE = "log_backends.json"
KINDS = (*log_stores.STORES, "elasticsearch", "opensearch", "cloudwatch")


def parse(text: str) -> list[dict[str, Any]]:
    """The log back ends; :raises ValueError: without a value of the text, as it holds passwords."""
    try:
        found: list[dict[str, Any]] = json.loads(text)
        if not isinstance(found, list):
            raise TypeError
        for item in found:
            needed = ("region", "log_group") if item["type"] == "cloudwatch" else ("url",)
            if item["type"] not in KINDS or not all(item.get(key) for key in needed):
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(error) from None
    for number, item in enumerate(found):
        try:
            wrong = problem(item)
        except (TypeError, ValueError, AttributeError):
            wrong = "one of its values is no text"
        if wrong:
            raise ValueError(f"Entry {number + 1} of {FILE} ({item['type']}) can't be used: {wrong}")
    return found


def unreadable(error: Exception) -> ValueError:
    """That the file can't be read, without its content."""
    return ValueError(
        f"{FILE} can't be read ({type(error).__name__}): write a JSON list of entries as verify_log_backends has them, "
        f"each with a type ({', '.join(KINDS)}) and a url, for cloudwatch with region and log_group"
    )


def secret_problem(given: dict[str, Any]) -> str:
    """What is wrong with the Secret that holds the file; empty when nothing is.

    :param given: the `name` and `namespace` of the Secret, and what was `found` of it, a list.
    """
    who = f"Secret {given['name']} in namespace {given['namespace']}"
    try:
        parse(texts(next(iter(given["found"]), None), (FILE,))[FILE])
    except SecretError as error:
        return f"{who} {error}"
    except ValueError as error:
        return f"{who} can't be used: {error}"
    return ""


def problem(given: dict[str, Any]) -> str:
    """What is wrong with a backend's address or credentials, without a value; empty when nothing is."""
    if given.get("url") and not is_address(given["url"]):
        return "its url is no web address, or holds a user name: write it like https://logs.example.com, and set username apart"
    if given.get("api_key") and not is_token(given["api_key"]):
        return "its api_key holds spaces or line breaks: give the key as one line"
    wrong = [key for key in ("username", "password") if any(ord(letter) < 32 for letter in given.get(key) or "")]
    wrong += [] if is_header(given.get("tenant") or "-") else ["tenant"]
    if wrong:
        return f"its {' and '.join(wrong)} can't be sent, with a line break or another control character: write it again"
    return ""


def secrets_of(given: dict[str, Any]) -> list[str]:
    """What no result may show of a backend's credentials."""
    return [given.get("api_key") or "", *login_secrets(given.get("username") or "", given.get("password") or "")]


def from_here(given: dict[str, Any], url: str, run: Run) -> str:
    """What a backend answers to a request from this machine, with the user's credentials."""
    headers = {"Accept": "application/json"}
    if given.get("api_key"):
        headers["Authorization"] = f"ApiKey {given['api_key']}"
    elif given.get("username"):
        headers["Authorization"] = basic(given["username"], given.get("password") or "")
    if given.get("tenant"):
        headers["X-Scope-OrgID"] = given["tenant"]
        if given["type"] == "victoria_logs":
            headers["AccountID"], _, project = given["tenant"].partition(":")
            headers["ProjectID"] = project or "0"
    context = ssl.create_default_context(cafile=given.get("ca_path")) if url.startswith("https:") else None
    where = urlsplit(url).netloc
    try:
        request = urllib.request.Request(url, headers=headers)
        with opener(context).open(request, timeout=run.request_seconds()) as response:
            return str(response.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            raise ApiError(error.code, f"{where} answered {error.code}, a redirect, which is not followed") from error
        raise ApiError(error.code, f"{where} answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ApiError(0, f"no answer from {where}: {reason(error)}") from error


def cloudwatch(given: dict[str, Any]) -> Callable[[str, float], Iterator[str]]:
    """What gives the events of a log group with a text in them, of the last so many seconds.

    It has the credentials that boto3 finds (environment, profile, role).

    :raises ApiError: where it can't be asked. :raises ImportError: where boto3 is not installed.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    group = given.get("log_group") or ""
    settings = Config(connect_timeout=REQUEST_SECONDS, read_timeout=REQUEST_SECONDS, retries={"total_max_attempts": 2})
    try:
        client = boto3.client("logs", region_name=given.get("region"), endpoint_url=given.get("url"), config=settings)
    except (BotoCoreError, ValueError) as error:
        raise ApiError(0, f"CloudWatch can't be asked: {error}") from error

    def search(text: str, seconds: float) -> Iterator[str]:
        since = int((time.time() - seconds) * 1000)
        pages = client.get_paginator("filter_log_events")
        try:
            # A page may be empty and not be the last.
            for page in pages.paginate(logGroupName=group, startTime=since, filterPattern=f'"{text}"'):
                yield from (event["message"] for event in page["events"])
        except (BotoCoreError, ClientError) as error:
            raise ApiError(0, f"CloudWatch refuses the search of {group}: {error}") from error

    return search


def logins_in(params: dict[str, Any]) -> Iterator[str]:
    """The logins in addresses of log backends, which are refused."""
    given = params.get("log_backends")
    for item in given if isinstance(given, list) else []:
        url = item.get("url") if isinstance(item, dict) else None
        login = re.search(r"//(.*)@", url, re.DOTALL) if isinstance(url, str) else None
        if login:
            yield from filter(None, (login[1], login[1].partition(":")[2]))
