"""What only a program can do with a request's headers, in Lua that Envoy runs: made from attributes, once for each
listener. A program costs a fifth of a request: routes say which requests need it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloudlet.mesh.routes import header_match
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension, typed

_HEADERS = "envoy.filters.http.lua"
_RUN = typed("config.route.v3.FilterConfig", config={})
REWRITES = "cloudlet.rewrites"
NAMESPACE = "cloudlet"
_LUA = "extensions.filters.http.lua.v3.Lua"

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
_TRACE = """
local source = io.open("/dev/urandom", "rb")
local b1, b2, b3, b4 = source:read(4):byte(1, 4)
source:close()
math.randomseed(((b1 * 256 + b2) * 256 + b3) * 256 + b4)
local random, format, time = math.random, string.format, os.time
local function id()
  return format("1-%08x-%06x%06x%06x%06x", time(), random(0, 16777215), random(0, 16777215), random(0, 16777215),
    random(0, 16777215))
end
local function trace(headers)
  local given = headers:get("x-amzn-trace-id")
  if given == nil then return end
  if given:find("Root=", 1, true) then
    headers:replace("x-amzn-trace-id", "Self=" .. id() .. ";" .. given:gsub("Self=[^;]*;?", ""))
  else
    headers:replace("x-amzn-trace-id", "Root=" .. id() .. ";" .. given)
  end
end
"""
# Names with other characters than letters, digits and hyphens.
_DROP = """
  local wrong = {}
  for name in pairs(headers) do
    if name:sub(1, 1) ~= ":" and not name:match("^[A-Za-z0-9-]+$") then wrong[#wrong + 1] = name end
  end
  for _, name in ipairs(wrong) do headers:remove(name) end
"""
_HOST = """
  local host = headers:get(":authority")
  if host and not host:match(":%d+$") then headers:replace(":authority", host .. ":{port}") end
"""
_KEEP = """
function envoy_on_response(handle)
  local headers, kept, cookies, has = handle:headers(), {{}}, {{{names}}}, false
  for index = 0, headers:getNumValues("set-cookie") - 1 do
    local value = headers:getAtIndex("set-cookie", index)
    if cookies[value:match("^[^=]*")] then has = true end
    if value:sub(1, {length}) ~= "{own}=" then kept[#kept + 1] = value end
  end
  if not has and #kept < headers:getNumValues("set-cookie") then
    headers:remove("set-cookie")
    for _, value in ipairs(kept) do headers:add("set-cookie", value) end
  end
end
"""


def headers_filter(*, drop: bool, port: int, app_cookies: Sequence[str] = (), own_cookie: str = "") -> Resource:
    """The filter of a listener: extend a trace header that is there; ``drop`` headers with invalid names; append the
    listener's ``port`` (0: do not) to a Host without one; and keep ``own_cookie`` off answers without one of
    ``app_cookies``."""
    body = "  trace(headers)" + (_DROP if drop else "") + (_HOST.format(port=port) if port else "")
    code = f"{_TRACE}\nfunction envoy_on_request(handle)\n  local headers = handle:headers()\n{body}\nend\n"
    if app_cookies:
        names = ", ".join(f'["{name}"] = true' for name in sorted(app_cookies))
        code += _KEEP.format(names=names, own=own_cookie, length=len(own_cookie) + 1)
    made = extension(_HEADERS, _LUA, default_source_code={"inline_string": code}, clear_route_cache=False)
    return made if drop or app_cookies else {**made, "disabled": True}


def with_headers(routes: Sequence[Resource], port: int) -> list[Resource]:
    """Routes, each preceded by those which have the filter of headers run: for requests with a trace header and, where
    there is a ``port`` to append, for those with a Host without one."""
    reasons = [header_match("x-amzn-trace-id")]
    if port:
        reasons.append({"name": ":authority", "string_match": {"contains": ":"}, "invert_match": True})
    made: list[Resource] = []
    for route in routes:
        configs, headers = route.get("typed_per_filter_config", {}), route["match"].get("headers", [])
        for reason in reasons:
            match = {**route["match"], "headers": [reason, *headers]}
            made.append({**route, "match": match, "typed_per_filter_config": {**configs, _HEADERS: _RUN}})
        made.append(route)
    return made


# What a transform has made of the host and the URL lies in metadata; only a program may put it into its place.
_REWRITE = f"""
function envoy_on_request(handle)
  local made = handle:streamInfo():dynamicMetadata():get("{NAMESPACE}") or {{}}
  if made.host then handle:headers():replace(":authority", made.host) end
  if made.url then handle:headers():replace(":path", made.url) end
end
"""


def rewrite_filters() -> list[Resource]:
    """The filters for routes with ``rewrites``; they do nothing for others."""
    return [
        extension(_TO_METADATA, "extensions.filters.http.header_to_metadata.v3.Config"),
        extension(REWRITES, _LUA, clear_route_cache=False),
    ]


def rewrites(host: tuple[str, str] | None, url: tuple[str, str] | None) -> Resource:
    """What a route says of them: a pattern and its replacement, in RE2's form, for the Host header and for the path
    with its query."""
    rules = [
        {
            "header": header,
            "on_header_present": {
                "metadata_namespace": NAMESPACE,
                "key": key,
                "regex_value_rewrite": {"pattern": {"regex": wanted[0]}, "substitution": wanted[1]},
            },
        }
        for header, key, wanted in ((":authority", "host", host), (":path", "url", url))
        if wanted
    ]
    return {
        _TO_METADATA: typed("extensions.filters.http.header_to_metadata.v3.Config", request_rules=rules),
        REWRITES: typed("extensions.filters.http.lua.v3.LuaPerRoute", source_code={"inline_string": _REWRITE}),
    }


_TO_METADATA = "envoy.filters.http.header_to_metadata"
