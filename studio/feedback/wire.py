"""Requests to an OpenAI-compatible server: one place for time limits, retries, sizes, and errors in plain words.

The key comes from the environment and goes into one header; it is in no error, event or file. Nothing is followed to
another host, and a server on this machine is never asked through a proxy.
"""

from __future__ import annotations

import dataclasses
import email.utils
import ipaddress
import json
import os
import re
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from studio.errors import ConfigError, DataError, ModelError, StudioError
from studio.redact import ENDPOINT_KEYS, redact

FORM = "Write it as http://127.0.0.1:11434/v1#MODEL, or https://HOST/v1#MODEL."
#: Seconds: to connect, until the next piece of an answer comes, until the whole of it is there.
CONNECT, SILENCE, WHOLE = 10.0, 300.0, 600.0
#: Tries of one request, the first wait between two (each next one is twice as long), and the longest a server may ask.
TRIES, WAIT, PATIENCE = 5, 1.0, 120.0
MAX_BODY = 16 << 20
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_REDIRECTS = 3
#: What stands for the answer to a prompt that a server's filter refuses: the same as for an answer that it cuts off.
FILTERED: dict[str, Any] = {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}


@dataclasses.dataclass(frozen=True)
class Address:
    """Where an endpoint is: the address of its API, its host (with the port), the model, and what may be said of it.

    `local`: it is on this machine; `secure`: nobody on the way can read along; `passed_on`: it is on this machine, and
    the model is not, as Ollama names those of its cloud.
    """

    name: str
    url: str
    host: str
    model: str
    local: bool
    secure: bool

    @property
    def passed_on(self) -> bool:
        """Tell whether a server on this machine passes the text on."""
        return self.local and re.search(r"[:-]cloud\Z", self.model) is not None


def read(name: str) -> Address:
    """Read an endpoint's name, `ADDRESS#MODEL`; an address without a path means `/v1`. Raises ConfigError."""
    shown = redact(name[:120])
    try:
        parts = urlsplit(name.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{shown!r} is no address.", FORM, field="endpoint") from None
    if parts.username is not None or parts.password is not None or parts.query:
        keys = " or ".join(ENDPOINT_KEYS)
        raise ConfigError("An endpoint's address holds no key or password.", f"Set {keys} instead.", field="endpoint")
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\\]", name.strip()):
        raise ConfigError(f"{shown!r} is no address.", FORM, field="endpoint")
    model = unquote(parts.fragment).strip()
    if not model:
        raise ConfigError(f"{shown!r} does not say which model answers.", FORM, field="endpoint")
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    shown_host = f"[{host}]" if ":" in host else host
    where = shown_host if port is None else f"{shown_host}:{port}"
    local = _loopback(host)
    return Address(name.strip(), f"{parts.scheme}://{where}{path}", where, model, local, parts.scheme == "https")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_for(address: Address) -> str:
    """Give the key that this endpoint is sent: STUDIO_ENDPOINT_KEY; else OPENAI_API_KEY, which never goes unencrypted.

    Raises ConfigError for one that cannot be a key.
    """
    names = ENDPOINT_KEYS if address.secure else ENDPOINT_KEYS[:1]
    for name in names:
        key = os.environ.get(name, "").strip()
        if key and not re.fullmatch(r"[!-~]+", key):
            raise ConfigError(f"{name} holds characters that no key has.", "Set it again, without blanks and quotes.")
        if key:
            return key
    return ""


class Retry(Exception):
    """A request that may work a little later: what went wrong, and after how many seconds the server wants it."""

    def __init__(self, error: StudioError, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.after = error, after


class Rejected(Exception):
    """A request that is not taken as it is: the error to tell, and what the server complains of."""

    def __init__(self, error: ModelError, about: str) -> None:
        super().__init__(error.message)
        self.error, self.about = error, about


class Wire:
    """A client of one endpoint, safe to use from several threads."""

    def __init__(self, address: Address) -> None:
        import httpx

        self._address, self._answered = address, False
        key = key_for(address)
        try:
            self._client = httpx.Client(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=httpx.Timeout(SILENCE, connect=CONNECT),
                follow_redirects=False,
                trust_env=not address.local,
            )
        except (ValueError, ImportError, OSError) as error:
            raise ConfigError(
                f"What the environment says of proxies and certificates cannot be used: {_short(str(error))}",
                "Look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE.",
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def models(self) -> list[str]:
        """List the models that the server names; empty where it does not tell."""
        try:
            found = self._once("GET", "/models", None).get("data")
            return [str(one["id"]) for one in found if isinstance(one, dict) and "id" in one]  # type: ignore[union-attr]
        except (StudioError, Retry, Rejected, TypeError):
            return []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request and give the answer's object; tries again where that may help.

        Raises ModelError: nobody there, no right to ask, no such model, no JSON; Rejected (no error of ours, for the
        caller may mend the request) where it is not taken as it is; DataError (field `context`) where it is too long.
        """
        wait = WAIT
        for left in reversed(range(TRIES)):
            try:
                return self._once("POST", path, body)
            except Retry as again:
                if not left or (again.after or 0) > PATIENCE:
                    raise again.error from None
                time.sleep(max(again.after or 0.0, wait))
                wait *= 2
        raise AssertionError("the last try gives or raises")

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        import httpx

        url = self._address.url + path
        try:
            for _ in range(_REDIRECTS):
                with self._client.stream(method, url, json=body) as response:
                    if response.is_redirect:
                        url = self._redirected(url, response)
                        continue
                    return self._answer(response, self._read(response), method)
        except httpx.TimeoutException:
            raise Retry(self._error("does not answer in time.", "Is it loading a model? Try again later.")) from None
        except httpx.ConnectError as error:
            raise self._unreachable(error) from None
        except httpx.TransportError as error:
            raise Retry(self._error(f"broke the connection off: {_short(str(error))}", "Try again later.")) from None
        except httpx.DecodingError as error:
            raise self._error(f"sent what cannot be unpacked: {_short(str(error))}", "Is a proxy between?") from None
        except httpx.InvalidURL:
            raise ConfigError(f"{self._address.url!r} is no address.", FORM, field="endpoint") from None
        raise self._error("sends every request elsewhere.", "Name the address of the API itself.")

    def _unreachable(self, error: Exception) -> Exception:
        told = _short(str(error))
        if "CERTIFICATE" in told.upper():
            return self._error(f"has no certificate that can be trusted: {told}", "Check the address.")
        made = self._error(f"cannot be reached: {told}", "Is the server running, and is this its address and port?")
        return Retry(made) if self._answered else made  # one that answered before may be starting again

    def _redirected(self, url: str, response: Any) -> str:
        """Follow to another path of the same server; anything else would send the text to somebody not named."""
        target = response.next_request.url if response.next_request is not None else None
        here = urlsplit(url)
        if target is None or response.status_code not in (307, 308):
            raise self._error("sends requests elsewhere.", "Name the address of the API itself; it often ends in /v1.")
        there = urlsplit(str(target))
        if (there.scheme, there.netloc) != (here.scheme, here.netloc):
            raise self._error(
                f"sends requests on to {there.scheme}://{there.netloc[:100]}; that is not followed.",
                "Name that address yourself, if the text may go there.",
            )
        return str(target)

    def _read(self, response: Any) -> bytes:
        """Read the body up to MAX_BODY, and not for ever: a server may send a byte a minute."""
        parts, size, began = [], 0, time.monotonic()
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > MAX_BODY:
                raise self._error(f"sent more than {MAX_BODY >> 20} MB for one answer.", "Ask for fewer tokens.")
            if time.monotonic() - began > WHOLE:
                raise Retry(self._error(f"did not finish within {WHOLE:g} s.", "Ask for fewer tokens."))
        return b"".join(parts)

    def _answer(self, response: Any, data: bytes, method: str) -> dict[str, Any]:
        """Give the object that was sent; what it is instead, or what went wrong, is said in words."""
        status, kind = response.status_code, response.headers.get("content-type", "nothing").split(";")[0].strip()[:60]
        found, problem = _object(data)
        if status >= 400 and method == "POST" and _about(found).get("code") == "content_filter":
            return FILTERED
        if status >= 400:
            raise self._failed(status, found, response.headers.get("retry-after", ""), method)
        if found is None:
            if kind == "text/event-stream":
                raise self._error("answers piece by piece only.", "It must be able to answer in one piece.")
            if not kind.endswith("json"):
                raise self._error(f"answers with {kind}, not with JSON.", "An API's address often ends in /v1.")
            raise self._error(f"answers with {problem}.", "Is that an OpenAI-compatible API?")
        if isinstance(found.get("error"), dict | str):  # some say it with status 200
            raise self._error(f"answers with an error: {_said(found)}", "See what it says.")
        self._answered = True
        return found

    def _failed(self, status: int, found: dict[str, Any] | None, after: str, method: str) -> Exception:
        told = _said(found or {})
        said = f" It says: {told}" if told else ""
        about = _about(found)
        if status in (401, 403):
            keys = " or ".join(ENDPOINT_KEYS if self._address.secure else ENDPOINT_KEYS[:1])
            return self._error(f"does not let us in ({status}).{said}", f"Set its key in {keys} and start again.")
        if status == 404:
            there = ", ".join(self.models()[:8]) if method == "POST" else ""  # it may not list them either
            remedy = f"It has: {there}." if there else "Check the address (it often ends in /v1) and the model's name."
            return self._error(f"has no model {self._address.model!r} there (404).{said}", remedy)
        if about.get("code") == "insufficient_quota":
            return self._error(f"has no credit left for this key.{said}", "Add some, then resume.")
        if about.get("code") == "context_length_exceeded" or "context length" in told.lower():
            return DataError(f"That is too long for {self._address.host}: {told}", "Ask for less.", field="context")
        if status in _AGAIN:
            what = "is asked too often (429)" if status == 429 else f"has trouble of its own ({status})"
            return Retry(self._error(f"{what}.{said}", "Try again later; what is finished is kept."), _seconds(after))
        message = f"The endpoint {self._address.host} does not take this request ({status}).{said}"
        error = ModelError(message, "See what it says.", field="endpoint")
        return Rejected(error, f"{about.get('param') or ''} {told}")

    def _error(self, what: str, remedy: str) -> ModelError:
        return ModelError(f"The endpoint {self._address.host} {what}", remedy, field="endpoint")


def _object(data: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None, "something that is no JSON" if data.strip() else "an empty body"
    return (found, "") if isinstance(found, dict) else (None, "JSON that is no object")


def _about(found: dict[str, Any] | None) -> dict[str, Any]:
    given = found.get("error") if found else None
    return given if isinstance(given, dict) else {}


def _said(found: dict[str, Any]) -> str:
    """Give what a server says of an error, short enough for a sentence."""
    error = found.get("error", found.get("message", found.get("detail", "")))
    text = error.get("message", "") if isinstance(error, dict) else error
    return _short(text if isinstance(text, str) else json.dumps(text))


def _short(text: str) -> str:
    return redact(" ".join(re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", text).split()))[:300]


def _seconds(after: str) -> float | None:
    """Read what a server says of when to come again: seconds, or a date."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", after.strip()):
        return float(after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
