# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP client for the APIs of UptimeRobot, Pingdom and StatusCake: limits, retries and errors. Private to this collection."""

from __future__ import annotations

import collections
import email.utils
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request

from ansible.module_utils.urls import make_context

from ..credentials.guard import hide, is_address, is_token, opener

# These pass by themselves; 520 to 530 are those of Cloudflare, which stands before the providers.
TRANSIENT = {408, 425, 500, 502, 503, 504, *range(520, 531)}
MAX_BACKOFF = 60  # seconds
# What the reader can do, by the status of a provider's answer.
HINTS = {
    400: "correct the named option",
    401: "give a valid api_token",
    402: "the plan does not include this",
    403: "give an api_token that may do this, and check that the plan includes it",
    404: "check the id, and api_url",
    409: "remove or rename the check that is in the way",
    422: "correct the named option",
    429: "run again later, or raise api_max_wait",
}


class CheckError(Exception):
    """What is wrong, where, and what to do, in one sentence."""

    outcomes: Sequence[Any] = ()  # what became of the checks until then
    done: Sequence[str] = ()  # actions on the check itself that were carried out before


class ProviderError(CheckError):
    """A provider's answer, or the lack of one.

    status: HTTP status, or 0 without an answer. text: the provider's words, with the fields they are about.
    """

    def __init__(self, title: str, call: str, status: int, text: str, hint: str = "") -> None:
        self.title, self.call, self.status, self.text = title, call, status, text
        self.about = ""  # which check the request was for
        if not hint:
            hint = HINTS.get(status, "run again later" if status >= 500 or not status else "")
        what = f"{title} answered {status} to {call}" if status else f"{title} gave no answer to {call}"
        super().__init__(f"{what}{f' ({text})' if text else ''}{f': {hint}' if hint else ''}")

    def __str__(self) -> str:
        return self.about + super().__str__()

    @property
    def concerns_all(self) -> bool:
        """Whether any other request would fail as well: no answer, no access, no more requests."""
        return self.status in (0, 401, 429) or self.status >= 500


class LostReply(ProviderError):
    """A create that may or may not have been carried out."""


class NoReply(Exception):
    """No usable answer; sent tells whether the provider may have carried out the request."""

    def __init__(self, text: str, sent: bool, final: bool = False) -> None:
        self.sent, self.final = sent, final
        super().__init__(text)


def number(text: Any) -> float | None:
    """Read a number that isn't negative."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value < 1e12 else None


def moment(text: str) -> float | None:
    """Read a date of a header (RFC 9110) as epoch seconds."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def retry_after(headers: dict[str, str], now: float) -> float | None:
    """Return the seconds of Retry-After, which is a number or a date (RFC 9110)."""
    text = headers.get("retry-after", "")
    seconds, date = number(text), moment(text)
    return max(0.0, date - now) if seconds is None and date is not None else seconds


def pause_uptimerobot(headers: dict[str, str], now: float) -> float:
    """Seconds until UptimeRobot takes the next request: X-RateLimit-Reset is an epoch time."""
    reset = number(headers.get("x-ratelimit-reset"))
    return max(0.0, reset - now) if number(headers.get("x-ratelimit-remaining")) == 0 and reset else 0.0


def pause_statuscake(headers: dict[str, str], now: float) -> float:
    """Seconds until StatusCake takes the next request: x-ratelimit-reset counts from now."""
    if number(headers.get("x-ratelimit-remaining")) != 0:
        return 0.0
    return number(headers.get("x-ratelimit-reset")) or 0.0


def pause_pingdom(headers: dict[str, str], now: float) -> float:
    """Seconds until Pingdom takes the next request: two windows, each 'Remaining: N Time until reset: S'."""
    waits = [0.0]
    for name in ("req-limit-short", "req-limit-long"):
        found = re.search(r"Remaining:\s*(\d+)\s+Time until reset:\s*(\d+)", headers.get(name, ""), re.IGNORECASE)
        if found and int(found[1]) == 0:
            waits.append(float(found[2]))
    return max(waits)


def explain_uptimerobot(body: Any) -> str:
    """Words of UptimeRobot's {message: text or list, code?, details?}."""
    message = body.get("message") or body.get("error") or ""
    parts = [str(part) for part in message] if isinstance(message, list) else [str(message)]
    if body.get("code"):
        parts.append(f"code {body['code']}")
    for detail in body.get("details") or body.get("detail") or []:
        parts.append(detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False))
    return "; ".join(part for part in parts if part)


def explain_pingdom(body: Any) -> str:
    """Words of Pingdom's {error: {statusdesc, errormessage}}."""
    error = body.get("error")
    if not isinstance(error, dict):
        return ""
    return str(error.get("errormessage") or error.get("statusdesc") or "")


def explain_statuscake(body: Any) -> str:
    """Words of StatusCake's {message, errors: {field: [text]}}."""
    parts = [str(body.get("message") or "")]
    errors = body.get("errors")
    for field, texts in errors.items() if isinstance(errors, dict) else ():
        parts.append(f"{field}: {', '.join(str(text) for text in texts) if isinstance(texts, list) else texts}")
    return "; ".join(part for part in parts if part)


# How each provider says how long to wait, and what is wrong.
DIALECTS: dict[str, tuple[Callable[[dict[str, str], float], float], Callable[[Any], str]]] = {
    "UptimeRobot": (pause_uptimerobot, explain_uptimerobot),
    "Pingdom": (pause_pingdom, explain_pingdom),
    "StatusCake": (pause_statuscake, explain_statuscake),
}


class Client:
    """Requests to one provider's API.

    title: a key of DIALECTS. params: a module's api_* options, validate_certs and ca_path. clock and sleep: for tests.
    """

    def __init__(
        self,
        title: str,
        params: dict[str, Any],
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.title, self.base, self.token = title, params["api_url"].rstrip("/"), params["api_token"] or ""
        self.timeout, self.retries, self.max_wait = params["api_timeout"], params["api_retries"], params["api_max_wait"]
        self.clock, self.sleep = clock or time.time, sleep or time.sleep
        self.pause, self.explain = DIALECTS[title]
        self.waited, self.not_before = 0.0, 0.0
        # Requests and seconds of each limit that the provider told, and when the last requests were answered.
        self.limits: list[tuple[int, int]] = []
        self.answered: collections.deque[float] = collections.deque(maxlen=1000)
        self.calls = 0
        self.hidden = {self.token}  # what no error may quote
        if not is_token(self.token):
            raise CheckError(
                f"The api_token for {title} is empty or holds spaces or line breaks: give the token that {title} shows"
            )
        if not is_address(self.base):
            raise CheckError(
                f"The api_url for {title} is not a web address without a user name: give one such as https://api.example.com/v1"
            )
        context = None
        if self.base.startswith("https:"):
            # ansible.module_utils.urls.open_url would read all certificates of this machine again for each request.
            ca_path = params["ca_path"]
            try:
                context = make_context(cafile=ca_path, validate_certs=params["validate_certs"])
            except (OSError, ValueError) as exc:
                raise CheckError(f"The certificates of ca_path {ca_path} can't be read ({exc}): give a file in PEM form") from exc
        self.opener = opener(context)

    def request(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        json_body: Any = None,
        form: list[tuple[str, str]] | None = None,
        answer: type | None = None,
        create: bool = False,
    ) -> Any:
        """Send one request, as often as it takes; return the decoded body, or None where answer is None.

        answer: the type the JSON must have. create: don't repeat when the provider may have carried it out.
        Raises ProviderError, and LostReply for a create whose outcome is unknown.
        """
        call, attempt = f"{method} {path}", 0
        while True:
            self._wait_until(max(self.not_before, self._free(self.clock())), call)
            failure = ProviderError(self.title, call, 0, "")
            delay: float | None = None
            try:
                status, headers, body = self._send(method, path, query, json_body, form)
            except NoReply as exc:
                hint = "check ca_path" if exc.final else "check the network and api_url, and run again"
                failure = ProviderError(self.title, call, 0, str(exc), hint)
                if exc.final:
                    raise failure from exc
                sent = exc.sent
            else:
                now, theirs = self._note(headers)
                if 200 <= status < 300:
                    try:
                        return self._decode(body, answer)
                    except ValueError as exc:
                        failure = ProviderError(self.title, call, status, str(exc), "check api_url, and run again")
                        sent = True
                else:
                    text = self._words(body)
                    if 300 <= status < 400:
                        raise ProviderError(self.title, call, status, "a redirect, which is not followed", "check api_url")
                    failure = ProviderError(self.title, call, status, text)
                    if status == 429:
                        asked = retry_after(headers, theirs)
                        delay = asked if asked is not None else self.not_before - now or None
                        self._wait(max(1.0, delay) if delay is not None else self._backoff(attempt), failure)
                        attempt += 1
                        continue
                    # UptimeRobot may answer so to a create that it has carried out.
                    if create and status == 404 and "000-004" in text:
                        raise LostReply(self.title, call, status, text)
                    if status not in TRANSIENT:
                        raise failure
                    delay = retry_after(headers, theirs)
                    sent = True
            if create and sent:
                raise LostReply(self.title, call, failure.status, failure.text)
            if attempt >= self.retries:
                raise failure
            self._wait(delay if delay is not None else self._backoff(attempt), failure)
            attempt += 1

    def _note(self, headers: Any) -> tuple[float, float]:
        """Note what an answer says about limits; now by our clock, and by theirs."""
        now = self.clock()
        # Their moments are of their clock, from which ours may differ.
        theirs = moment(headers.get("date", "")) or now
        self.not_before = now + self.pause(headers, theirs)
        self.answered.append(now)
        # StatusCake tells only how many are left of one of its limits, but the sizes of all: 5, 5;w=1, 60;w=60.
        sizes = re.findall(r"(\d+);w=(\d+)", headers.get("x-ratelimit-limit", ""))
        self.limits = [(int(size), int(seconds)) for size, seconds in sizes if int(size) <= 1000] or self.limits
        return now, theirs

    def _send(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None,
        json_body: Any,
        form: list[tuple[str, str]] | None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send once; return status, headers with names in lower case, and the body. Raises NoReply."""
        headers = {"Accept": "application/json", "User-Agent": "flaskops.observability"}
        data: bytes | None = None
        if json_body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(json_body, ensure_ascii=False).encode()
        elif form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(form).encode()
        url = f"{self.base}{path}{'?' + urlencode(query) if query else ''}"
        request = Request(url, data, headers, method=method)
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        self.calls += 1
        try:
            reply = self.opener.open(request, timeout=self.timeout)
        except HTTPError as exc:
            reply = exc
        except (URLError, http.client.HTTPException, OSError, ValueError) as exc:
            raise self._unanswered(exc) from exc
        try:
            with reply:
                received = {name.lower(): value for name, value in reply.headers.items()}
                return reply.code, received, reply.read()
        except (http.client.HTTPException, OSError, ValueError) as exc:
            raise self._unanswered(exc) from exc

    def _unanswered(self, exc: Exception) -> NoReply:
        reason = getattr(exc, "reason", exc)
        text = " ".join(self._redact(str(reason)).split()) or type(reason).__name__
        if isinstance(reason, ssl.SSLCertVerificationError) or "certificate" in text.lower():
            return NoReply(f"its certificate is not trusted, {text[:200]}", sent=False, final=True)
        if isinstance(reason, TimeoutError):
            return NoReply(f"nothing came for {self.timeout} s", sent=True)
        return NoReply(text[:200], sent=not isinstance(reason, ConnectionRefusedError | socket.gaierror))

    def _decode(self, body: bytes, answer: type | None) -> Any:
        if answer is None:
            return None
        try:
            value = json.loads(body)
        except ValueError as exc:
            raise ValueError("the body is empty" if not body else "the body is not JSON") from exc
        if not isinstance(value, answer):
            raise ValueError(f"the body is not a JSON {'object' if answer is dict else 'list'}")
        return value

    def _words(self, body: bytes) -> str:
        """The provider's own words from an error's body."""
        try:
            value = json.loads(body)
            text = self.explain(value) if isinstance(value, dict) else ""
        except (ValueError, TypeError, AttributeError):
            text = ""
        return " ".join(self._redact(text).split())[:500].rstrip(". ")

    def _redact(self, text: str) -> str:
        return hide(text, self.hidden)

    def _backoff(self, attempt: int) -> float:
        return float(min(2**attempt, MAX_BACKOFF))

    def _free(self, now: float) -> float:
        """Return the moment at which no limit is used up by the requests of this run."""
        moments = [now]
        for size, seconds in self.limits:
            if 0 < size <= len(self.answered):
                moments.append(self.answered[-size] + seconds)
        return max(moments)

    def _wait_until(self, moment: float, call: str) -> None:
        left = moment - self.clock()
        if left > 0:
            self._wait(left, ProviderError(self.title, call, 429, "no requests are left"))

    def _wait(self, seconds: float, failure: ProviderError) -> None:
        """Sleep, or raise the failure where that would take longer than may be waited in all."""
        if self.waited + seconds > self.max_wait:
            text = f"{failure.text}; the next try would be in {seconds:.0f} s, past api_max_wait={self.max_wait}"
            raise ProviderError(self.title, failure.call, failure.status, text.removeprefix("; "))
        self.waited += seconds
        self.sleep(seconds)
