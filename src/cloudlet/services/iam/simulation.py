"""The policy simulator: what policies would decide, without doing it."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.iam.authorization import Authorization
from cloudlet.services.iam.entities import page, scope_of
from cloudlet.services.policies import documents
from cloudlet.services.policies.conditions import Lookup
from cloudlet.services.policies.evaluation import (
    Decision,
    Layers,
    Policy,
    Request,
    Who,
    compile_statements,
    evaluate,
    missing_keys,
)

_KINDS = {"user": "User", "group": "Group", "role": "Role"}


class Simulation(Authorization):
    """Operations of the policy simulator."""

    async def SimulateCustomPolicy(self, call: Call, input: Input) -> Output:
        return self._simulate(call, Layers(_given(input["PolicyInputList"])), input.get("CallerArn", ""), input)

    async def SimulatePrincipalPolicy(self, call: Call, input: Input) -> Output:
        if "PolicyExclusionList" in input:
            raise not_implemented("SimulatePrincipalPolicy with PolicyExclusionList")
        arn = input["PolicySourceArn"]
        layers = self._layers_of_arn(call, arn)
        layers = layers._replace(identity=[*layers.identity, *_given(input.get("PolicyInputList", []))])
        return self._simulate(call, layers, input.get("CallerArn") or arn, input)

    async def GetContextKeysForCustomPolicy(self, call: Call, input: Input) -> Output:
        return {"ContextKeyNames": _keys(_given(input["PolicyInputList"]))}

    async def GetContextKeysForPrincipalPolicy(self, call: Call, input: Input) -> Output:
        layers = self._layers_of_arn(call, input["PolicySourceArn"])
        return {"ContextKeyNames": _keys([*layers.identity, *_given(input.get("PolicyInputList", []))])}

    def _layers_of_arn(self, call: Call, arn: str) -> Layers:
        parts = arn.split(":", 5)
        kind = _KINDS.get(parts[5].partition("/")[0]) if len(parts) == 6 and parts[2] == "iam" else None
        if kind is None:
            raise AwsError("InvalidInput", f"Invalid Entity Arn: {arn} does not clearly define entity type and name.")
        return self.layers_of(kind, scope_of(call), arn.rpartition("/")[2])

    def _simulate(self, call: Call, layers: Layers, caller: str, input: Input) -> Output:
        for name in ("OrderedOrganizationPolicyInputList", "ResourceHandlingOption", "ResourceOwner"):
            if input.get(name):
                raise not_implemented(f"{call.operation} with {name}")
        if boundary := input.get("PermissionsBoundaryPolicyInputList"):
            layers = layers._replace(boundary=_given(boundary))
        resource, who = None, None
        if text := input.get("ResourcePolicy"):
            if not caller:
                raise AwsError("InvalidInput", "Policy evaluation with a resource policy needs a CallerArn.")
            resource = Policy(compile_statements(text), "ResourcePolicy", "resource")
            who = Who(frozenset((caller,)), caller.split(":")[4] if caller.startswith("arn:") else call.account)
        lookup = _lookup(input, caller)
        results = []
        for action in input["ActionNames"]:
            for name in input.get("ResourceArns") or ["*"]:
                request = Request(action, (name,), lookup, who)
                decision = evaluate(request, layers, resource)
                results.append(_result(request, layers, decision, resource))
        return page("EvaluationResults", results, input)


def _given(texts: list[str]) -> list[Policy]:
    policies = []
    for number, text in enumerate(texts, start=1):
        try:
            documents.check_identity_policy(text)
        except AwsError as error:
            raise AwsError("InvalidInput", f"Invalid policy: {error.message}") from None
        policies.append(Policy(compile_statements(text), f"PolicyInputList.{number}", "none"))
    return policies


def _lookup(input: Input, caller: str) -> Lookup:
    known = {entry["ContextKeyName"].lower(): entry["ContextKeyValues"] for entry in input.get("ContextEntries", ())}
    if caller:
        known.setdefault("aws:principalarn", [caller])
        if ":user/" in caller:
            known.setdefault("aws:username", [caller.rpartition("/")[2]])
    return known.get


def _result(request: Request, layers: Layers, decision: Decision, resource: Policy | None) -> dict[str, Any]:
    matched = [{"SourcePolicyId": policy.id, "SourcePolicyType": policy.kind} for policy in decision.matched]
    result: dict[str, Any] = {
        "EvalActionName": request.action,
        "EvalResourceName": request.resources[0],
        "EvalDecision": "allowed" if decision.allowed else "explicitDeny" if decision.denied else "implicitDeny",
        "MatchedStatements": matched,
        "MissingContextValues": missing_keys(request, [*layers.identity, *([resource] if resource else ())]),
    }
    if layers.boundary is not None:
        allows = evaluate(request, Layers(layers.boundary)).allowed
        result["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": allows}
    return result


def _keys(policies: list[Policy]) -> list[str]:
    keys = {
        condition.name for policy in policies for statement in policy.statements for condition in statement.conditions
    }
    return sorted(keys)
