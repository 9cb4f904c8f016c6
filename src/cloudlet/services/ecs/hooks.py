"""Lifecycle hooks of deployments: functions that are asked, and pauses, before a stage is left.

The first part is pure; ``ask`` calls the function.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-lifecycle-hooks.html
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.ecs.records import Hook, ServiceDeployment

if TYPE_CHECKING:
    from cloudlet.services.api import Cloud

_ECS = "ecs.amazonaws.com"
LAMBDA, PAUSE = "AWS_LAMBDA", "PAUSE"
_STAGES_OF_PAUSES = frozenset(("TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT"))  # not for them
_DELAY = 30.0  # seconds until a function that is not done yet is asked again
_TIMEOUT = 1440.0  # minutes


class Answer(NamedTuple):
    """What a function says: its status, the seconds until it wants to be asked again, and what it will be told then."""

    status: str
    delay: float = _DELAY
    details: Any = None
    reason: str = ""


def of_stage(one: ServiceDeployment, stage: str, now: float) -> tuple[Hook, ...]:
    """The hooks that a deployment has at a stage, none of them asked yet."""
    made = []
    for place, given in enumerate(one.configuration.get("lifecycleHooks", ())):
        if stage not in given.get("lifecycleStages", ()):
            continue
        kind, timeout = given.get("targetType", LAMBDA), given.get("timeoutConfiguration", {})
        id = hashlib.sha256(f"{one.number} {stage} {now} {place}".encode()).hexdigest()[:32]
        made.append(
            Hook(
                id=f"ecs-pause-{id}" if kind == PAUSE else id,
                kind=kind,
                function=given.get("hookTargetArn", ""),
                status="AWAITING_ACTION" if kind == PAUSE else "IN_PROGRESS",
                due=now,
                expires=now + 60 * timeout.get("timeoutInMinutes", _TIMEOUT),
                action=timeout.get("action", "ROLLBACK"),
                details=given.get("hookDetails"),
            )
        )
    return tuple(made)


def are_done(one: ServiceDeployment) -> bool:
    """Whether no hook holds the deployment at its stage; one that has failed is the deployment's fault."""
    return not any(_is_open(hook) for hook in one.hooks)


def due(one: ServiceDeployment, now: float) -> list[Hook]:
    """The functions that are to be asked now."""
    return [hook for hook in one.hooks if hook.kind == LAMBDA and hook.status == "IN_PROGRESS" and hook.due <= now]


def expire(one: ServiceDeployment, now: float) -> ServiceDeployment:
    """The deployment after the time of its hooks has run out."""
    late = [hook for hook in one.hooks if _is_open(hook) and hook.expires <= now]
    for hook in late:
        one = _with(one, msgspec.structs.replace(hook, status="TIMED_OUT"))
        if hook.action == "ROLLBACK":
            one = msgspec.structs.replace(one, fault=f"Lifecycle hook timed out at the {one.stage} lifecycle stage.")
    return one


def times(one: ServiceDeployment) -> list[float]:
    """When hooks are due and when they run out of time."""
    return [when for hook in one.hooks if _is_open(hook) for when in (hook.due, hook.expires)]


def answered(one: ServiceDeployment, id: str, answer: Answer, now: float) -> ServiceDeployment:
    """The deployment once a hook has been answered; unchanged when it waits for that no more."""
    hook = find(one, id)
    if hook is None or not _is_open(hook):
        return one
    details = hook.details if answer.details is None else answer.details
    changed = msgspec.structs.replace(hook, status=answer.status, due=now + answer.delay, details=details)
    one = msgspec.structs.replace(_with(one, changed), updated=now)
    if answer.status == "FAILED":
        words = f"Lifecycle hook failed at the {one.stage} stage. {answer.reason}"
        one = msgspec.structs.replace(one, fault=words.strip())
    return one


def find(one: ServiceDeployment, id: str) -> Hook | None:
    """A hook of the present stage."""
    return next((hook for hook in one.hooks if hook.id == id), None)


def check(given: dict[str, Any]) -> str:
    """What is wrong with a hook that is asked for, or nothing."""
    if not given.get("lifecycleStages"):
        return "A lifecycle hook must have at least one lifecycle stage."
    if given.get("targetType", LAMBDA) == LAMBDA:
        missing = [name for name in ("hookTargetArn", "roleArn") if not given.get(name)]
        return f"A lifecycle hook of type AWS_LAMBDA must have a {missing[0]}." if missing else ""
    if wrong := _STAGES_OF_PAUSES.intersection(given["lifecycleStages"]):
        return f"Lifecycle hooks of type PAUSE are not supported at the {min(wrong)} lifecycle stage."
    return ""


def shown(hook: Hook) -> dict[str, Any]:
    """A hook as the API shows it."""
    return {
        "hookId": hook.id,
        "targetType": hook.kind,
        **({"targetArn": hook.function} if hook.function else {}),
        "status": hook.status,
        "expiresAt": hook.expires,
        "timeoutAction": hook.action,
    }


async def ask(cloud: Cloud, scope: str, hook: Hook, event: dict[str, Any]) -> Answer:
    """Call a hook's function and read its answer. Whatever it does wrong is a failure."""
    account, region = scope.split("/")
    told = {**event, **({"hookDetails": hook.details} if hook.details is not None else {})}
    payload = {"FunctionName": hook.function, "Payload": msgspec.json.encode(told)}
    try:
        output = await cloud.call("lambda", "Invoke", payload, account=account, region=region, principal=_ECS)
    except AwsError as error:
        return Answer("FAILED", reason=error.message)
    body = output.get("Payload", b"")
    if "FunctionError" in output:
        return Answer("FAILED", reason="The function failed.")
    try:
        said = msgspec.json.decode(body if isinstance(body, bytes) else b"".join([part async for part in body]))
        status = said["hookStatus"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return Answer("FAILED", reason="HookStatus must not be null")
    if status not in ("SUCCEEDED", "FAILED", "IN_PROGRESS"):
        return Answer("FAILED", reason=f"HookStatus is not valid: {status}")
    delay = said.get("callBackDelay", _DELAY)
    return Answer(status, float(delay) if isinstance(delay, int | float) else _DELAY, said.get("hookDetails"))


def _is_open(hook: Hook) -> bool:
    return hook.status in ("IN_PROGRESS", "AWAITING_ACTION")


def _with(one: ServiceDeployment, changed: Hook) -> ServiceDeployment:
    return msgspec.structs.replace(one, hooks=tuple(changed if hook.id == changed.id else hook for hook in one.hooks))
