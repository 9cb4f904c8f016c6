"""Who may do what: the step of a request between knowing the caller and doing what he asks, with ``--auth enforce``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input
from cloudlet.services.iam import actions, managed
from cloudlet.services.iam.account import Accounts
from cloudlet.services.iam.records import Entity
from cloudlet.services.policies.conditions import Lookup
from cloudlet.services.policies.evaluation import (
    Decision,
    Grip,
    Layers,
    Policy,
    Request,
    Who,
    compile_statements,
    evaluate,
    grip_of,
    is_foreign,
)

if TYPE_CHECKING:
    from cloudlet.services.sts.service import Service as Sts

_REMEMBERED = 4096  # callers whose policies are held in memory

# Services whose errors have the query protocol's code; S3 and these say AccessDenied, all others AccessDeniedException.
_PLAIN = frozenset(
    ("autoscaling", "cloudformation", "cloudfront", "cloudwatch", "elbv2", "iam", "rds", "route53", "s3", "sqs", "sts")
)


class Identity:
    """A caller with everything that is said about him. ``layers`` is None for an account's root."""

    __slots__ = ("facts", "layers", "who")

    def __init__(self, who: Who, layers: Layers | None, facts: dict[str, list[str]]) -> None:
        self.who = who
        self.layers = layers
        self.facts = facts  # context keys that every request of his has


class Authorization(Accounts):
    """The policies of callers, looked up once after each change of IAM's records."""

    _identities: dict[tuple[str, str], Identity]
    _identities_of = -1

    async def authorize(
        self, call: Call, input: Input, arn: str = "", resource_policy: str | None = None, needed: bool = False
    ) -> None:
        """Whether the caller may do this. Raises AccessDenied in the service's words.

        ``arn`` is the resource's, where the input does not say; ``needed`` says that without a word in the resource's
        policy nobody may, not even its account.
        """
        identity = await self._identity(call)
        lookup = _lookup(call, input, identity, self.clock.now)
        resource = None
        if resource_policy:
            resource = Policy(compile_statements(resource_policy), "resource", "resource")
        for need in actions.needs_of(call, input):
            if need.action in actions.FREE or (need.action == "sts:AssumeRole" and resource is None):
                continue  # a role's trust policy is STS's to ask
            resources = (arn,) if arn else self._real(call, input, need.resources)
            request = Request(need.action, resources, lookup, identity.who)
            is_needed = needed and resource is not None
            if identity.layers is None and not is_foreign(request) and not is_needed:
                continue  # an account's root may do everything in it
            decision = evaluate(request, identity.layers or _UNLIMITED, resource, is_needed)
            if not decision.allowed:
                raise _denied(call, request, decision)

    def judge_anybody(self, call: Call, action: str, arn: str, document: str) -> tuple[bool, bool]:
        """Whether a resource's policy allows, and whether it denies, something to whoever asks without a signature."""
        anybody = Identity(Who(frozenset(), ""), None, {"aws:principaltype": ["Anonymous"]})
        request = Request(action, (arn,), _lookup(call, {}, anybody, self.clock.now), anybody.who)
        fitting = [
            one.allows
            for one in compile_statements(document)
            if one.grip(anybody.who) is not Grip.NONE and one.applies(request)
        ]
        return True in fitting, False in fitting

    async def check_trust(self, call: Call, action: str, role: Entity, context: dict[str, str]) -> None:
        """Whether a role trusts the caller, and the caller may ask for it. Raises AccessDenied."""
        identity = await self._identity(call)
        facts = {key.lower(): [value] for key, value in context.items()}
        own = _lookup(call, {}, identity, self.clock.now)
        arn = role.members["Arn"]

        def lookup(key: str) -> Sequence[str] | None:
            return facts.get(key) or own(key)

        request = Request(action, (arn,), lookup, identity.who)
        trust = Policy(compile_statements(role.members["AssumeRolePolicyDocument"]), "trust", "resource")
        denied = any(
            not one.allows and one.grip(identity.who) is not Grip.NONE and one.applies(request)
            for one in trust.statements
        )
        grip = Grip.NONE if denied else grip_of(request, trust)
        if grip is Grip.NONE:
            raise _denied(call, request, Decision(False))
        # A trust in the whole account leaves it to the caller's own policies; a service has none.
        own_account = identity.who.account == arn.split(":")[4]
        if identity.layers is not None and not (grip is Grip.DIRECT and own_account):
            decision = evaluate(request, identity.layers)
            if not decision.allowed:
                raise _denied(call, request, decision)

    def layers_of(self, kind: str, scope: str, name: str) -> Layers:
        """The policies of a user, group or role. Raises NoSuchEntity."""
        entity: Entity = self.entity(kind, scope, name)
        identity = self._policies_of(kind, scope, name, entity)
        if kind == "User":
            for group in entity.groups:  # type: ignore[attr-defined]
                identity += self._policies_of("Group", scope, group, self.entity("Group", scope, group))
        boundary = entity.members.get("PermissionsBoundary")
        limit = None if boundary is None else self._managed(scope, [boundary["PermissionsBoundaryArn"]])
        return Layers(identity, limit)

    def _policies_of(self, kind: str, scope: str, name: str, entity: Entity) -> list[Policy]:
        inline = [
            Policy(compile_statements(document), f"{kind.lower()}_{name}_{policy}", kind.lower())
            for policy, document in entity.inline.items()
        ]
        return inline + self._managed(scope, entity.attached)

    def _managed(self, scope: str, arns: list[str]) -> list[Policy]:
        """Managed policies by their ARNs; of one whose text is not known here nothing is allowed."""
        found = []
        for arn in arns:
            name = arn.rsplit("/", 1)[-1]
            if managed.is_managed(arn):
                document, kind = managed.document(arn), "aws-managed"
            else:
                policy, kind = self.find_policy(scope, arn), "user-managed"
                document = (
                    policy.versions[policy.members["DefaultVersionId"]]["Document"] if policy is not None else None
                )
            if document is not None:
                found.append(Policy(compile_statements(document), name, kind))
        return found

    async def _identity(self, call: Call) -> Identity:
        """Whoever calls; costs a dictionary look-up until something changes in IAM."""
        if self._identities_of != self.db.revision:
            self._identities, self._identities_of = {}, self.db.revision
        key = (call.access_key, call.principal)
        found = self._identities.get(key)
        if found is None:
            if len(self._identities) >= _REMEMBERED:
                self._identities.clear()
            found = self._identities[key] = await self._find_identity(call)
        return found

    async def _find_identity(self, call: Call) -> Identity:
        principal, account, scope = call.principal, call.account, f"{call.account}/global"
        session = None
        if call.access_key.startswith("ASIA"):
            sts: Sts = await self.cloud.service("sts")  # type: ignore[assignment]
            session = await sts.session(call.access_key)
        tags: dict[str, str] = {}
        names, kind = {principal}, "Account"
        layers: Layers | None = Layers([])  # of somebody who has been deleted
        owner = principal
        if ":federated-user/" in principal and session is not None:
            owner, kind = session.issuer, "FederatedUser"
        if owner.endswith(":root") or not owner.startswith("arn:"):
            layers = None if kind == "Account" else _UNLIMITED
        elif ":user/" in owner:
            name = owner.rpartition("/")[2]
            if (user := self.users.get(scope, name)) is not None:
                layers, tags = self.layers_of("User", scope, name), _tags(user.value)
            kind = kind if kind == "FederatedUser" else "User"
        elif ":assumed-role/" in owner:
            name = owner.split("/")[1]
            kind = "AssumedRole"
            if (record := self.roles.get(scope, name)) is not None:
                layers, tags = self.layers_of("Role", scope, name), _tags(record.value)
                names.add(record.value.members["Arn"])
        narrowed = session.policies if session is not None else []
        if layers is not None and (narrowed or kind == "FederatedUser"):
            documents = [Policy(compile_statements(one)) for one in narrowed if not one.startswith("arn:")]
            given = documents + self._managed(scope, [one for one in narrowed if one.startswith("arn:")])
            layers = layers._replace(session=given)
        facts = {
            "aws:principalarn": [next((name for name in names if ":role/" in name), principal)],
            "aws:principalaccount": [account],
            "aws:principaltype": [kind],
            "aws:principalisawsservice": [str(not principal.startswith("arn:")).lower()],
        }
        if kind == "User":
            facts["aws:username"] = [principal.rpartition("/")[2]]
            facts["aws:userid"] = [self.user_id(principal) or account]
        elif session is not None:
            facts["aws:userid"] = [session.user_id]
            if session.source_identity:
                facts["aws:sourceidentity"] = [session.source_identity]
            tags |= session.tags
        facts |= {f"aws:principaltag/{key.lower()}": [value] for key, value in tags.items()}
        return Identity(Who(frozenset(names), account), layers, facts)

    def _real(self, call: Call, input: Input, resources: tuple[str, ...]) -> tuple[str, ...]:
        """The resource with the path that an entity of IAM has."""
        if call.service == "iam":
            for kind in ("User", "Role", "Group"):
                record = self.of_kind(kind).get(f"{call.account}/global", input.get(f"{kind}Name", ""))
                if record is not None:
                    return (record.value.members["Arn"],)
        return resources


_UNLIMITED = Layers([Policy(compile_statements('{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}'))])


def _tags(entity: Entity) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in entity.members.get("Tags", ())}


def _lookup(call: Call, input: Input, identity: Identity, now: Any) -> Lookup:
    """The context keys of a request; most are made only when a condition asks for one."""
    made: dict[str, list[str]] = {}

    def make() -> None:
        time, request = now(), call.request
        made.update(identity.facts)
        made["aws:currenttime"] = [datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")]
        made["aws:epochtime"] = [str(int(time))]
        made["aws:requestedregion"] = [call.region]
        made["aws:viaawsservice"] = ["false"]
        if request is not None:
            made["aws:sourceip"] = [request.client]
            made["aws:securetransport"] = ["true" if request.scheme == "https" else "false"]
            if agent := request.headers.get("user-agent"):
                made["aws:useragent"] = [agent]
        tags = list(actions.request_tags(input))
        if tags:
            made["aws:tagkeys"] = [key for key, _ in tags]
            made.update({f"aws:requesttag/{key.lower()}": [value] for key, value in tags})
        for name, value in (input.get("EncryptionContext") or {}).items() if call.service == "kms" else ():
            made[f"kms:encryptioncontext:{name.lower()}"] = [value]
        for member, key in _OF_INPUT.get(call.service, ()):
            if member in input:
                made[key] = [str(input[member])]

    def lookup(key: str) -> list[str] | None:
        if not made:
            make()
        return made.get(key)

    return lookup


# Context keys that are members of the input.
_OF_INPUT: dict[str, tuple[tuple[str, str], ...]] = {
    "s3": (("Prefix", "s3:prefix"), ("Delimiter", "s3:delimiter"), ("MaxKeys", "s3:max-keys"), ("ACL", "s3:x-amz-acl")),
    "lambda": (("FunctionUrlAuthType", "lambda:functionurlauthtype"),),
    "sns": (("Protocol", "sns:protocol"), ("Endpoint", "sns:endpoint")),
    "sts": (("ExternalId", "sts:externalid"), ("RoleSessionName", "sts:rolesessionname")),
    "iam": (("PolicyARN", "iam:policyarn"), ("PermissionsBoundary", "iam:permissionsboundary")),
}


def _denied(call: Call, request: Request, decision: Decision) -> AwsError:
    """The refusal as the service words it."""
    resource = request.resources[0]
    shown = f'"{resource}"' if call.service == "s3" else resource
    message = f"User: {call.principal} is not authorized to perform: {request.action} on resource: {shown}"
    if decision.reason:
        message += f" {decision.reason}"
    if call.service == "sns":
        return AwsError("AuthorizationError", message, status=403)
    if call.service in _PLAIN:
        return AwsError("AccessDenied", message, status=403)
    status = 400 if call.service in ("dynamodb", "dynamodbstreams", "logs", "kinesis", "ecs", "events") else 403
    return AwsError("AccessDeniedException", message, status=status)
