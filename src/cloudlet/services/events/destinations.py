"""API destinations: an event as an HTTP request, authorized by a connection, no faster than its rate allows."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.events.inputs import text_at
from cloudlet.services.events.records import ApiDestination, Connection

if TYPE_CHECKING:
    import aiohttp

_PATIENCE = 5.0  # seconds that an endpoint has to answer
_AGAIN = frozenset((401, 407, 409, 429))
_EARLY = 60.0  # seconds before its end in which a token is no longer used


class Caller:
    """Makes the requests. Tokens and the time of each destination's next request are only in memory."""

    def __init__(self, cloud: Cloud) -> None:
        self._clock = cloud.clock
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[str, tuple[str, float]] = {}
        self._next: dict[str, float] = {}

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def call(
        self, destination: ApiDestination, connection: Connection, target: dict[str, Any], event: bytes, body: str
    ) -> None:
        """Send an event. Raises AwsError; its code says whether another try may help."""
        if connection.state != "AUTHORIZED":
            raise AwsError("AccessDeniedException", f"The connection {connection.name} is {connection.state}.")
        await self._turn(destination)
        given, always = target.get("HttpParameters", {}), connection.auth.get("InvocationHttpParameters", {})
        parsed = msgspec.json.decode(event)
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": "Amazon/EventBridge/ApiDestinations",
            "range": "bytes=0-1048575",
            **_values(given.get("HeaderParameters", {}), parsed),
            **_pairs(always, "HeaderParameters"),
        }
        await self._authorize(connection, headers)
        url = destination.endpoint
        for value in given.get("PathParameterValues", ()):
            url = url.replace("*", quote(_value(value, parsed), safe=""), 1)
        query = {**_values(given.get("QueryStringParameters", {}), parsed), **_pairs(always, "QueryStringParameters")}
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        status = await self._send(destination.method, url, headers, _with_fields(body, always))
        if status in (401, 407):
            self._tokens.pop(connection.arn, None)
        if not 200 <= status < 300:
            again = status in _AGAIN or status >= 500
            code = "EndpointError" if again else "InvalidEndpointAnswer"
            raise AwsError(code, f"The endpoint answered {status}.", status=502)

    async def _turn(self, destination: ApiDestination) -> None:
        """Wait until the destination's rate allows another request."""
        now = self._clock.now()
        turn = max(now, self._next.get(destination.arn, 0.0))
        self._next[destination.arn] = turn + 1.0 / destination.rate
        if turn > now:
            await self._clock.sleep(turn - now)

    async def _authorize(self, connection: Connection, headers: dict[str, str]) -> None:
        match connection.type:
            case "API_KEY":
                key = connection.auth["ApiKeyAuthParameters"]
                headers[key["ApiKeyName"]] = key["ApiKeyValue"]
            case "BASIC":
                basic = connection.auth["BasicAuthParameters"]
                headers["authorization"] = _basic(basic["Username"], basic["Password"])
            case _:
                headers["authorization"] = f"Bearer {await self._token(connection)}"

    async def _token(self, connection: Connection) -> str:
        """An access token of the connection's client. Raises AwsError."""
        known = self._tokens.get(connection.arn)
        if known is not None and known[1] > self._clock.now():
            return known[0]
        oauth = connection.auth["OAuthParameters"]
        client, more = oauth["ClientParameters"], oauth.get("OAuthHttpParameters", {})
        form = {
            "grant_type": "client_credentials",
            "client_id": client["ClientID"],
            "client_secret": client["ClientSecret"],
            **_pairs(more, "BodyParameters"),
        }
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "authorization": _basic(client["ClientID"], client["ClientSecret"]),
            **_pairs(more, "HeaderParameters"),
        }
        url, query = oauth["AuthorizationEndpoint"], _pairs(more, "QueryStringParameters")
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        session = self._http()
        async with session.request(oauth["HttpMethod"], url, data=urlencode(form), headers=headers) as answer:
            content = await answer.read()
            status = answer.status
        try:
            granted = msgspec.json.decode(content)
            token, lasts = granted["access_token"], float(granted.get("expires_in", 3600))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise AwsError("EndpointError", f"The authorization endpoint answered {status} without a token.") from None
        self._tokens[connection.arn] = token, self._clock.now() + max(1.0, lasts - _EARLY)
        return str(token)

    async def _send(self, method: str, url: str, headers: dict[str, str], body: str) -> int:
        import aiohttp

        data = body.encode() if method not in ("GET", "HEAD") else None
        try:
            async with self._http().request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except aiohttp.InvalidURL as error:
            raise AwsError("InvalidEndpoint", f"The endpoint's URL is not valid: {error}") from error

    def _http(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE))
        return self._session


def _value(text: str, event: Any) -> str:
    """A parameter's value: a JSON path is what it selects of the event."""
    return (text_at(event, text) or "") if text.startswith("$.") else text


def _values(parameters: dict[str, str], event: Any) -> dict[str, str]:
    return {name: _value(value, event) for name, value in parameters.items()}


def _pairs(parameters: dict[str, Any], member: str) -> dict[str, str]:
    return {pair["Key"]: pair.get("Value", "") for pair in parameters.get(member, ())}


def _with_fields(body: str, always: dict[str, Any]) -> str:
    """A body with the connection's own fields, where it is a JSON object."""
    fields = _pairs(always, "BodyParameters")
    if not fields:
        return body
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return body
    return msgspec.json.encode({**document, **fields}).decode() if isinstance(document, dict) else body


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
