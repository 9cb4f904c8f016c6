"""Which VPCs private zones belong to, also those of other accounts."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.route53 import errors
from cloudlet.services.route53.base import limit, plain
from cloudlet.services.route53.records import Zone
from cloudlet.services.route53.zones import Zones, check_vpc

_PUBLIC_ZONE = (
    "You're trying to associate a VPC with a public hosted zone. "
    "Amazon Route 53 doesn't support associating a VPC with a public hosted zone."
)


class Vpcs(Zones):
    """Associations, and what another account needs to make one."""

    async def AssociateVPCWithHostedZone(self, call: Call, input: Input) -> Output:
        vpc = input["VPC"]
        await self._check_vpc(call, vpc)
        owner = self._owner(call, input["HostedZoneId"])

        def associate(zone: Zone) -> dict[str, Any]:
            if not zone.private:
                raise AwsError("PublicZoneVPCAssociation", _PUBLIC_ZONE)
            if owner != call.account and vpc not in zone.authorized:
                raise AwsError(
                    "NotAuthorizedException",
                    f"The VPC: {vpc['VPCId']} has not authorized to associate with your hosted zone.",
                )
            self._check_domain(zone, vpc, [record.value for record in self._zones.list(owner)])
            return {"vpcs": [*zone.vpcs, vpc]}

        await self._edit(call, input["HostedZoneId"], associate, owner)
        return await self._changed(input)

    async def DisassociateVPCFromHostedZone(self, call: Call, input: Input) -> Output:
        vpc = input["VPC"]

        def disassociate(zone: Zone) -> dict[str, Any]:
            left = [one for one in zone.vpcs if one["VPCId"] != vpc.get("VPCId")]
            if len(left) == len(zone.vpcs):
                raise AwsError(
                    "VPCAssociationNotFound",
                    f"The VPC: {vpc.get('VPCId')} is not currently associated with the hosted zone.",
                )
            if not left:
                raise AwsError(
                    "LastVPCAssociation",
                    "The VPC that you're trying to disassociate from the private hosted zone is the last VPC that is "
                    "associated with the hosted zone. Amazon Route 53 doesn't support disassociating the last VPC from "
                    "a hosted zone.",
                )
            return {"vpcs": left}

        await self._edit(call, input["HostedZoneId"], disassociate, self._owner(call, input["HostedZoneId"]))
        return await self._changed(input)

    async def CreateVPCAssociationAuthorization(self, call: Call, input: Input) -> Output:
        vpc = input["VPC"]
        check_vpc(vpc)

        def authorize(zone: Zone) -> dict[str, Any]:
            if not zone.private:
                raise AwsError("PublicZoneVPCAssociation", _PUBLIC_ZONE)
            return {"authorized": [*(one for one in zone.authorized if one != vpc), vpc]}

        zone = await self._edit(call, input["HostedZoneId"], authorize)
        return {"HostedZoneId": zone.id, "VPC": vpc}

    async def DeleteVPCAssociationAuthorization(self, call: Call, input: Input) -> Output:
        vpc = input["VPC"]

        def withdraw(zone: Zone) -> dict[str, Any]:
            if vpc not in zone.authorized:
                raise AwsError(
                    "VPCAssociationAuthorizationNotFound",
                    "The VPC that you specified is not authorized to be associated with the hosted zone.",
                )
            return {"authorized": [one for one in zone.authorized if one != vpc]}

        await self._edit(call, input["HostedZoneId"], withdraw)
        return {}

    async def ListVPCAssociationAuthorizations(self, call: Call, input: Input) -> Output:
        zone, size = self._zone(call, input["HostedZoneId"]), limit(input, "MaxResults")
        start = str(input.get("NextToken", "0"))
        if not start.isdigit():
            raise errors.invalid_token("VPC association authorizations")
        end = int(start) + size
        output: Output = {"HostedZoneId": zone.id, "VPCs": zone.authorized[int(start) : end]}
        return output | ({"NextToken": str(end)} if end < len(zone.authorized) else {})

    def _owner(self, call: Call, id: str) -> str:
        """The account of a zone, the caller's where there is no such zone: a VPC's owner may change its own place."""
        index = self.index.zones.get(plain(id))
        return index.zone.account if index is not None and index.zone.private else call.account

    async def _changed(self, input: Input) -> Output:
        now = self.clock.now()
        return {"ChangeInfo": await self._db.write(lambda tx: self._change(tx, now, input.get("Comment")))}
