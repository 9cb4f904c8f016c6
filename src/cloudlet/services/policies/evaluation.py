"""The evaluation of policies: may this principal do that, and which statement says so. Pure, and quick enough for
every request: documents are compiled once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from cloudlet.services.policies.conditions import Lookup, compile_conditions, pattern, substitute


class Who(NamedTuple):
    """A principal: its ARN, for a session also its role's, and the account."""

    names: frozenset[str]
    account: str


class Request(NamedTuple):
    """What is asked for. ``resources`` are the forms in which policies may name the one resource."""

    action: str
    resources: tuple[str, ...]
    lookup: Lookup
    who: Who | None = None


class Grip(Enum):
    """How a statement names a principal: not at all, through its account, or itself."""

    NONE = 0
    ACCOUNT = 1
    DIRECT = 2


class Statement:
    """A compiled statement."""

    __slots__ = ("_action", "_principal", "_resource", "allows", "conditions", "sid")

    def __init__(self, statement: dict[str, Any]) -> None:
        self.sid: str = statement.get("Sid", "")
        self.allows: bool = statement.get("Effect") == "Allow"
        self._action = _actions(statement)
        self._resource = _resources(statement)
        self._principal = _principals(statement)
        self.conditions = compile_conditions(statement.get("Condition") or {})

    def concerns(self, request: Request) -> bool:
        """Whether it is about this action on this resource, whatever its conditions say."""
        return self._action(request.action.lower()) and self._resource(request)

    def grip(self, who: Who) -> Grip:
        """How it names a principal."""
        return self._principal(who)

    def applies(self, request: Request) -> bool:
        """Whether it is about this request and its conditions hold."""
        return self.concerns(request) and all(condition.holds(request.lookup) for condition in self.conditions)


class Policy(NamedTuple):
    """A compiled document and what it is: ``id`` and ``kind`` are as simulations show them."""

    statements: tuple[Statement, ...]
    id: str = ""
    kind: str = "none"


class Layers(NamedTuple):
    """Everything that is said about a principal. A limit that is None is not there."""

    identity: list[Policy]
    boundary: list[Policy] | None = None
    session: list[Policy] | None = None


class Decision(NamedTuple):
    """``reason`` is what AWS says after "because"; ``matched`` are the policies that decided."""

    allowed: bool
    denied: bool = False  # explicitly
    reason: str = ""
    matched: tuple[Policy, ...] = ()


@lru_cache(maxsize=4096)
def compile_statements(document: str) -> tuple[Statement, ...]:
    """The statements of a policy document that was checked when it was stored."""
    statements = json.loads(document)["Statement"]
    return tuple(Statement(one) for one in (statements if isinstance(statements, list) else [statements]))


def is_resource_policy(document: str) -> bool:
    """Whether a document says who may do what with a resource, so that it can be evaluated once it is stored."""
    try:
        compile_statements(document)
        statements = json.loads(document)["Statement"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    for statement in statements if isinstance(statements, list) else [statements]:
        if statement.get("Effect") not in ("Allow", "Deny"):
            return False
        if not all(statement.keys() & {name, f"Not{name}"} for name in ("Principal", "Action")):
            return False
    return True


def evaluate(request: Request, layers: Layers, resource: Policy | None = None, needed: bool = False) -> Decision:
    """Decide as AWS does: an explicit deny wins; else the identity's policies must allow it, or a resource's policy
    that names the principal itself (in another account, or where the policy is needed: both of them), and so must
    every limit that is there."""
    limits = [
        (name, policies)
        for name, policies in (("permissions boundary", layers.boundary), ("session policy", layers.session))
        if policies is not None
    ]
    for name, policies in (("identity-based policy", layers.identity), *limits):
        if matched := _saying(request, policies, allows=False):
            article = "an" if name[0] == "i" else "a"
            return Decision(False, True, f"with an explicit deny in {article} {name}", matched)
    grip = Grip.NONE
    if resource is not None and request.who is not None:
        if any(
            not one.allows and one.grip(request.who) is not Grip.NONE and one.applies(request) for one in resource[0]
        ):
            return Decision(False, True, "with an explicit deny in a resource-based policy", (resource,))
        grip = grip_of(request, resource)
    matched = _saying(request, layers.identity, allows=True)
    if (is_foreign(request) or needed) and (grip is Grip.NONE or resource is None):
        return Decision(False, False, f"because no resource-based policy allows the {request.action} action")
    if is_foreign(request):
        assert resource is not None
        matched = (*matched, resource) if matched else ()
    elif grip is Grip.DIRECT and resource is not None:
        matched = (*matched, resource)
    if not matched:
        return Decision(False, False, f"because no identity-based policy allows the {request.action} action")
    for name, policies in limits:
        if not _saying(request, policies, allows=True):
            return Decision(False, False, f"because no {name} allows the {request.action} action")
    return Decision(True, matched=matched)


def is_foreign(request: Request) -> bool:
    """Whether the resource is of another account than the principal."""
    account = (request.resources[0].split(":", 5) + [""] * 5)[4]
    return request.who is not None and account.isdigit() and account != request.who.account


def grip_of(request: Request, resource: Policy) -> Grip:
    """How firmly a resource's policy lets the principal in."""
    assert request.who is not None
    found = [one.grip(request.who) for one in resource.statements if one.allows and one.applies(request)]
    return max(found, key=lambda grip: grip.value, default=Grip.NONE)


def missing_keys(request: Request, policies: Iterable[Policy]) -> list[str]:
    """The context keys that conditions ask for and the request does not have."""
    keys = {
        condition.name
        for policy in policies
        for statement in policy.statements
        if statement.concerns(request)
        for condition in statement.conditions
        if request.lookup(condition.key) is None
    }
    return sorted(keys)


def _saying(request: Request, policies: list[Policy], *, allows: bool) -> tuple[Policy, ...]:
    """The policies with a statement that allows, or denies, the request."""
    return tuple(
        policy for policy in policies if any(one.allows is allows and one.applies(request) for one in policy.statements)
    )


def _list(statement: dict[str, Any], name: str) -> list[str]:
    found = statement.get(name, [])
    return found if isinstance(found, list) else [found]


def _actions(statement: dict[str, Any]) -> Callable[[str], bool]:
    negated = "NotAction" in statement
    wanted = [one.lower() for one in _list(statement, "NotAction" if negated else "Action")]
    if "*" in wanted:
        return lambda action: not negated
    exact = frozenset(one for one in wanted if "*" not in one and "?" not in one)
    patterns = [pattern(one).fullmatch for one in wanted if one not in exact]
    return lambda action: (action in exact or any(fits(action) for fits in patterns)) != negated


def _resources(statement: dict[str, Any]) -> Callable[[Request], bool]:
    negated = "NotResource" in statement
    wanted = _list(statement, "NotResource" if negated else "Resource")
    if not wanted or "*" in wanted:
        return lambda request: not negated or not wanted
    fixed = [pattern(one).fullmatch for one in wanted if "${" not in one]
    varying = [one for one in wanted if "${" in one]

    def matches(request: Request) -> bool:
        for resource in request.resources:
            if any(fits(resource) for fits in fixed):
                return not negated
            for text in varying:
                replaced = substitute(text, request.lookup, escaped=True)
                if replaced is not None and pattern(replaced).fullmatch(resource):
                    return not negated
        return negated

    return matches


def _principals(statement: dict[str, Any]) -> Callable[[Who], Grip]:
    negated = "NotPrincipal" in statement
    given = statement.get("NotPrincipal" if negated else "Principal")
    if given is None:
        return lambda who: Grip.NONE
    if given == "*":
        named = {"*"}
    else:
        named = {value for key in given for value in _list(given, key)}

    def grip(who: Who) -> Grip:
        if "*" in named or not named.isdisjoint(who.names):
            return Grip.DIRECT
        if who.account in named or f"arn:aws:iam::{who.account}:root" in named:
            return Grip.ACCOUNT
        return Grip.NONE

    if not negated:
        return grip
    return lambda who: Grip.DIRECT if grip(who) is Grip.NONE else Grip.NONE
