"""Who may pass: sessions of users (``authenticate-oidc``) and tokens of programs (``jwt-validation``).

Envoy verifies the session's cookie and the bearer token itself, before it chooses the route: what a valid one says
becomes metadata, which the routes of a rule ask for. Only a login itself is done by us (``logins.py``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from cloudlet.mesh.clusters import assignment, endpoint
from cloudlet.mesh.routes import header
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.tls import client_tls
from cloudlet.mesh.typed import extension
from cloudlet.services.elbv2.records import Document

OIDC, JWT = "authenticate-oidc", "jwt-validation"
ISSUER = "elasticloadbalancing.amazonaws.com"
CALLBACK = "/oauth2/idpresponse"
COOKIE = "AWSELBAuthSessionCookie"
_FILTER = "envoy.filters.http.jwt_authn"
_CONFIGS = {OIDC: "AuthenticateOidcConfig", JWT: "JwtValidationConfig"}
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def action_of(actions: Sequence[Document]) -> Document | None:
    """The action that says who may pass, if there is one."""
    return next((action for action in actions if action["Type"] in _CONFIGS), None)


def config_of(action: Document) -> Document:
    """The action's own settings."""
    found: Document = action[_CONFIGS[action["Type"]]]
    return found


def key_of(action: Document) -> str:
    """What stands for an action: the same for the same settings, so that it outlives a restart."""
    return _hash([action["Type"], {name: value for name, value in config_of(action).items() if name != "ClientSecret"}])


def session_of(action: Document) -> str:
    """What stands for the sessions, or tokens, of an action: a session is good for all actions of one provider's
    client with one cookie, whatever they do with users who have none."""
    if action["Type"] == JWT:
        return key_of(action)
    config = config_of(action)
    return _hash([config["Issuer"], config["ClientId"], cookie_of(action)])


def _hash(parts: Sequence[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:16]


def cookie_of(action: Document) -> str:
    """The name of the session's cookie; AWS counts its parts, and here there is one."""
    return f"{config_of(action).get('SessionCookieName') or COOKIE}-0"


def passes(action: Document) -> list[Resource]:
    """What the metadata of a request that may pass says, for a route's match."""
    key, issuer = session_of(action), config_of(action)["Issuer"] if action["Type"] == JWT else ISSUER
    found = [_says(key, "iss", {"string_match": {"exact": issuer}})]
    for claim in config_of(action).get("AdditionalClaims", []):
        for value in claim["Values"]:
            exact: Resource = {"string_match": {"exact": value}}
            if claim["Format"] == "string-array":
                exact = {"list_match": {"one_of": exact}}
            elif claim["Format"] == "space-separated-values":
                exact = {"string_match": {"safe_regex": {"regex": rf"(?:.* )?{re.escape(value)}(?: .*)?"}}}
            found.append(_says(key, claim["Name"], exact))
    return found


def told(action: Document) -> list[Resource]:
    """The headers in which a target is told who the user is."""
    start = f"%DYNAMIC_METADATA({_FILTER}:{session_of(action)}"
    return [header(name, f"{start}:{claim})%") for name, claim in _HEADERS.items()] if action["Type"] == OIDC else []


def untold(action: Document) -> list[str]:
    """Those headers: a client cannot set them itself."""
    return list(_HEADERS) if action["Type"] == OIDC else []


_HEADERS = {"x-amzn-oidc-accesstoken": "accesstoken", "x-amzn-oidc-identity": "sub", "x-amzn-oidc-data": "data"}


def _says(key: str, claim: str, value: Resource) -> Resource:
    return {"filter": _FILTER, "path": [{"key": key}, {"key": claim}], "value": value}


def jwt_filter(actions: Sequence[Document], public_key: Mapping[str, Any]) -> Resource:
    """The filter that verifies what the actions ask for; sessions are signed with ``public_key``, a JSON Web Key."""
    providers = {session_of(action): _provider(action, public_key) for action in actions}
    either = [
        {"requires_any": {"requirements": [{"provider_name": key}, {"allow_missing_or_failed": {}}]}}
        for key in providers
    ]
    requires = either[0] if len(either) == 1 else {"requires_all": {"requirements": either}}
    return extension(
        _FILTER,
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers=providers,
        rules=[{"match": {"prefix": "/"}, "requires": requires}],
    )


def _provider(action: Document, public_key: Mapping[str, Any]) -> Resource:
    config, key = config_of(action), session_of(action)
    made: Resource = {"payload_in_metadata": key, "forward": True, "clear_route_cache": True}
    if action["Type"] == JWT:
        source = {"uri": config["JwksEndpoint"], "cluster": jwks_cluster_name(action), "timeout": "5s"}
        made |= {"issuer": config["Issuer"], "require_expiration": True}
        made["remote_jwks"] = {"http_uri": source, "cache_duration": "300s"}
        return made
    keys = msgspec.json.encode({"keys": [public_key]}).decode()
    made |= {"issuer": ISSUER, "audiences": [key], "from_cookies": [cookie_of(action)]}
    made["local_jwks"] = {"inline_string": keys}
    return made


def jwks_cluster_name(action: Document) -> str:
    """The cluster from which an action's keys come."""
    where = urlsplit(config_of(action)["JwksEndpoint"])
    return f"jwks/{where.scheme}/{where.hostname}/{where.port or _port(where.scheme)}"


def jwks_cluster(action: Document, bundle: str = "") -> Resource:
    """The cluster itself: the endpoint by its DNS name, its certificate judged by the system's authorities."""
    where = urlsplit(config_of(action)["JwksEndpoint"])
    name, host = jwks_cluster_name(action), where.hostname or ""
    of = endpoint(host, where.port or _port(where.scheme))
    made: Resource = {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "dns_lookup_family": "V4_PREFERRED",
        "load_assignment": assignment(name, [of]),
    }
    if where.scheme == "https":
        made["transport_socket"] = client_tls(sni=host)
        common = made["transport_socket"]["typed_config"]["common_tls_context"]
        names = [{"san_type": "DNS", "matcher": {"exact": host}}]
        common["validation_context"] = {
            "trusted_ca": {"filename": bundle or _BUNDLES[0]},
            "match_typed_subject_alt_names": names,
        }
    return made


def authorities() -> str:
    """The file of the authorities that this system trusts, or nothing."""
    from pathlib import Path

    return next((file for file in _BUNDLES if Path(file).is_file()), "")


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
