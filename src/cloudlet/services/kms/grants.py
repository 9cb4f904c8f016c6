"""Operations on grants. What they allow is in ``policies.py``."""

from __future__ import annotations

import base64
import secrets

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.kms import records
from cloudlet.services.kms.base import Base, check_dry_run, check_state, page
from cloudlet.services.kms.records import Grant
from cloudlet.store import Tx

_SHOWN = (
    "Name",
    "GranteePrincipal",
    "GranteeServicePrincipal",
    "RetiringPrincipal",
    "RetiringServicePrincipal",
    "Operations",
    "Constraints",
)


class Grants(Base):
    """Operations on grants."""

    async def CreateGrant(self, call: Call, input: Input) -> Output:
        key = self.identified(call, input["KeyId"])
        check_state(key)
        if ("GranteePrincipal" in input) == ("GranteeServicePrincipal" in input):
            raise AwsError("ValidationException", "Exactly one grantee principal must be specified.")
        check_dry_run(input)
        members = {name: input[name] for name in _SHOWN if name in input}
        token = base64.urlsafe_b64encode(secrets.token_bytes(96)).decode()
        new = Grant(key.id, secrets.token_hex(32), token, self.clock.now(), members)

        def create(tx: Tx) -> Grant:
            if "Name" in members:
                # The same request with a name is the same grant.
                for known in records.grants(tx, key.id):
                    if known.members == members:
                        return known
            records.add_grant(tx, key.scope, new)
            return new

        grant = await self.db.write(create)
        return {"GrantToken": grant.token, "GrantId": grant.id}

    async def ListGrants(self, call: Call, input: Input) -> Output:
        key = self.identified(call, input["KeyId"])
        found = await self.db.scan(lambda tx: records.grants(tx, key.id))
        if "GrantId" in input:
            found = [grant for grant in found if grant.id == input["GrantId"]]
        for name in ("GranteePrincipal", "GranteeServicePrincipal"):
            if name in input:
                found = [grant for grant in found if grant.members.get(name) == input[name]]
        return self._listed(call, found, input)

    async def ListRetirableGrants(self, call: Call, input: Input) -> Output:
        found = await self.db.scan(lambda tx: records.all_grants(tx, call.scope))
        wanted = {name: input[name] for name in ("RetiringPrincipal", "RetiringServicePrincipal") if name in input}
        found = [grant for grant in found if all(grant.members.get(name) == wanted[name] for name in wanted)]
        return self._listed(call, found, input)

    async def RevokeGrant(self, call: Call, input: Input) -> Output:
        key = self.identified(call, input["KeyId"])
        check_dry_run(input)
        if not await self.db.write(lambda tx: records.drop_grant(tx, key.id, input["GrantId"])):
            raise _no_such_grant(input["GrantId"])
        return {}

    async def RetireGrant(self, call: Call, input: Input) -> Output:
        token, id = input.get("GrantToken"), input.get("GrantId")
        if (token is None) == (id is None or "KeyId" not in input):
            raise AwsError("ValidationException", "Specify a grant token, or a key ID and a grant ID.")
        check_dry_run(input)
        key_id = "" if token is not None else self.identified(call, input["KeyId"]).id

        def retire(tx: Tx) -> None:
            if token is None:
                grant = records.grant(tx, key_id, str(id))
            else:
                grant = records.grant_of(tx, token)
            if grant is None:
                raise AwsError("InvalidGrantTokenException", "") if token is not None else _no_such_grant(str(id))
            records.drop_grant(tx, grant.key, grant.id)

        await self.db.write(retire)
        return {}

    def _listed(self, call: Call, found: list[Grant], input: Input) -> Output:
        shown, more = page(found, input, lambda grant: grant.id, 50)
        account, region = call.scope.split("/")
        grants = [
            {
                **grant.members,
                "KeyId": f"arn:aws:kms:{region}:{account}:key/{grant.key}",
                "GrantId": grant.id,
                "CreationDate": grant.created,
                "IssuingAccount": f"arn:aws:iam::{account}:root",
            }
            for grant in shown
        ]
        return {"Grants": grants, **more}


def _no_such_grant(id: str) -> AwsError:
    return AwsError("NotFoundException", f"Grant ID {id} not found")
