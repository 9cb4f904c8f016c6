"""StartLiveTail: new events as a stream, one update a second."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs.base import Base
from cloudlet.services.logs.following import Follower
from cloudlet.services.logs.patterns import Pattern, compile_pattern

_UPDATE = 1.0  # seconds of the machine's own time, not of the cloud's
_EVENTS_AT_MOST = 500  # of one update; of more the first are sent and the update says so
_LONGEST = 3 * 3600.0
_GROUPS_AT_MOST = 10


class Tailing(Base):
    """The operation that follows groups."""

    async def StartLiveTail(self, call: Call, input: Input) -> Output:
        names, prefixes = input.get("logStreamNames", []), input.get("logStreamNamePrefixes", [])
        if names and prefixes:
            raise AwsError(
                "InvalidParameterException", "Only one of logStreamNames or logStreamNamePrefixes can be provided."
            )
        identifiers = input["logGroupIdentifiers"]
        if len(identifiers) > _GROUPS_AT_MOST:
            raise AwsError("InvalidParameterException", f"A session can have at most {_GROUPS_AT_MOST} log groups.")
        if (names or prefixes) and len(identifiers) > 1:
            raise AwsError(
                "InvalidParameterException",
                "logStreamNames and logStreamNamePrefixes can only be used with a single log group.",
            )
        matches = compile_pattern(input.get("logEventFilterPattern", ""))
        groups = {group.name: group.arn for group in (self.identified(call, one) for one in identifiers)}

        def wish(group: str, stream: str) -> bool:
            if group not in groups:
                return False
            return not (names or prefixes) or stream in names or stream.startswith(tuple(prefixes) or ("\x00",))

        follower = self.followers.add(call.scope, wish)
        session = {
            "requestId": call.request_id,
            "sessionId": str(uuid.uuid4()),
            "logGroupIdentifiers": list(groups.values()),
            "logStreamNames": names,
            "logStreamNamePrefixes": prefixes,
            "logEventFilterPattern": input.get("logEventFilterPattern", ""),
        }
        return {"responseStream": self._tail(call, follower, session, groups, matches)}

    async def _tail(
        self, call: Call, follower: Follower, session: dict[str, Any], groups: dict[str, str], matches: Pattern
    ) -> AsyncIterator[dict[str, Any]]:
        yield {"sessionStart": session}
        end = asyncio.get_running_loop().time() + _LONGEST
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_UPDATE)
            now = self.now()
            found = [
                {
                    "logStreamName": event["stream"],
                    "logGroupIdentifier": f"{call.account}:{event['group']}",
                    "message": event["message"],
                    "timestamp": event["timestamp"],
                    "ingestionTime": now,
                }
                for event in follower.taken()
                if matches(event["message"]) is not None
            ]
            sampled = len(found) > _EVENTS_AT_MOST
            update = {"sessionMetadata": {"sampled": sampled}, "sessionResults": found[:_EVENTS_AT_MOST]}
            yield {"sessionUpdate": update}
        yield {"SessionTimeoutException": {"message": "The session has reached its longest duration."}}
