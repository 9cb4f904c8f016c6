"""Stage caches: what integrations have answered, for as long as a method's settings let it be remembered.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-caching.html
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.http import Response
from cloudlet.services.api import Cloud
from cloudlet.services.apigateway.events import Context
from cloudlet.services.apigateway.refusals import Refused
from cloudlet.services.fronts import signed

SIZES = ("0.5", "1.6", "6.1", "13.5", "28.4", "58.2", "118", "237")  # gigabytes that a cluster may have at AWS

_TTL = 300  # seconds, where the settings do not say
_LARGEST = 1024 * 1024  # bytes of an answer that is remembered
_ROOM = 64 * 1024 * 1024  # bytes of all caches together: what was used longest ago goes first
_IGNORED = "199 Cache-control headers were ignored because the caller was unauthorized."

Key = tuple[str, ...]
_Entry = tuple[float, Response]


class Caches:
    """The caches of all stages, in memory: a restart empties them."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._size = 0

    async def answer(self, context: Context, integrate: Callable[[], Awaitable[Response]]) -> Response:
        """An integration's answer, from the cache where the method has one. Raises Refused."""
        settings = context.settings
        seconds = settings.get("cacheTtlInSeconds", _TTL)
        if not (context.stage.get("cacheClusterEnabled") and _is_cached(context) and seconds):
            return await integrate()
        key, warning = _key(context), ""
        if _asks_for_fresh(context):
            if await self._may_invalidate(context):
                self._drop(key)
            else:
                warning = _warning(settings)
        response = self._find(key, context.now)
        context.cache_hit = response is not None
        if response is None:
            response = await integrate()
            self._keep(key, response, context.now + seconds)
        if warning:
            response.headers["warning"] = warning
        return response

    def flush(self, api_id: str, stage: str) -> None:
        """Forget what a stage has answered."""
        for key in [key for key in self._entries if key[:2] == (api_id, stage)]:
            self._drop(key)

    async def _may_invalidate(self, context: Context) -> bool:
        if not context.settings.get("requireAuthorizationForCacheControl", True):
            return True
        try:
            where = {"ResourceArn": context.method_arn}
            await signed.caller(self._cloud, context.request, "execute-api", "InvalidateCache", where)
        except AwsError:
            return False
        return True

    def _find(self, key: Key, now: float) -> Response | None:
        found = self._entries.get(key)
        if found is None or now >= found[0]:
            return None
        self._entries.move_to_end(key)
        return _copy(found[1])

    def _keep(self, key: Key, response: Response, until: float) -> None:
        self._drop(key)
        if not isinstance(response.body, bytes) or len(response.body) > _LARGEST:
            return
        self._entries[key] = until, _copy(response)
        self._size += len(response.body)
        while self._size > _ROOM:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        gone = self._entries.pop(key, None)
        if gone is not None:
            self._size -= len(gone[1].body)  # type: ignore[arg-type]


def _is_cached(context: Context) -> bool:
    """Whether a method's answers are: those of GET by the settings of all methods, others' only by their own."""
    is_own = context.own_settings or context.request.method == "GET"
    return is_own and bool(context.settings.get("cachingEnabled"))


def _key(context: Context) -> Key:
    """Answers differ by the cache key parameters alone: a path that is none of them gives the same answer."""
    integration = (context.method or {}).get("methodIntegration") or {}
    mapped: dict[str, str] = integration.get("requestParameters") or {}
    values = [context.value(mapped.get(name, name)) or "" for name in integration.get("cacheKeyParameters") or []]
    namespace = integration.get("cacheNamespace") or (context.resource or {})["id"]
    shared = (context.stage.get("canarySettings") or {}).get("useStageCache")
    release = "canary" if context.canary and not shared else ""
    return (context.api_id, context.stage["stageName"], release, namespace, context.request.method, *values)


def _asks_for_fresh(context: Context) -> bool:
    asked = context.request.headers.get("cache-control", "").lower().split(",")
    return any(directive.strip() == "max-age=0" for directive in asked)


def _warning(settings: dict[str, Any]) -> str:
    """What somebody is told who may not invalidate. Raises Refused."""
    strategy = settings.get("unauthorizedCacheControlHeaderStrategy", "SUCCEED_WITH_RESPONSE_HEADER")
    if strategy == "FAIL_WITH_403":
        raise Refused("ACCESS_DENIED")
    return _IGNORED if strategy == "SUCCEED_WITH_RESPONSE_HEADER" else ""


def _copy(response: Response) -> Response:
    """An answer with headers of its own: each request adds its id to them."""
    copy = Response(response.status, dict(response.headers), response.body)
    copy.cookies = list(response.cookies)
    return copy
