"""STS: who calls, and temporary credentials for roles, users and those whom an identity provider knows."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.iam.credentials import new_id, new_secret
from cloudlet.services.sts import policies, saml, tags, web_identity
from cloudlet.services.sts.records import MIGRATIONS, Session, add, find
from cloudlet.wire.signature import Credential

if TYPE_CHECKING:
    from cloudlet.services.iam.records import Role
    from cloudlet.services.iam.service import Service as Iam

_HOUR = 3600
_SESSION = 43_200  # seconds that a session token or a federation token is good for when nothing else is asked
_REMEMBERED = 4096  # sessions held in memory
_TOKEN = 288  # bytes of a session token


class Service(api.Service):
    """Issued credentials are in the store until they end; the gateway finds them by their access key."""

    name = "sts"

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name, MIGRATIONS)
        self._sessions: dict[str, Session] = {}

    # Who calls

    async def GetCallerIdentity(self, call: Call, input: Input) -> Output:
        return {"UserId": await self._user_id(call), "Account": call.account, "Arn": call.principal}

    async def GetAccessKeyInfo(self, call: Call, input: Input) -> Output:
        iam, key = await self._iam(), input["AccessKeyId"]
        credential = await iam.credential(key) or await self.credential(key)
        if credential is not None:
            return {"Account": credential.account}
        if self.cloud.config.auth == "enforce":
            raise AwsError("ValidationError", f"Invalid AccessKeyId: {key}", status=400)
        # Where every key is believed, one that nobody issued is the caller's account's.
        return {"Account": call.account}

    async def session(self, access_key: str) -> Session | None:
        """A session by its access key; it may have ended."""
        return self._sessions.get(access_key) or await self._find(access_key)

    async def credential(self, access_key: str) -> Credential | None:
        """What a signature of this key is verified with; None when nobody has the key. It may have ended."""
        session = await self.session(access_key)
        if session is None:
            return None
        return Credential(
            access_key, session.secret, session.account, session.principal, session.token, session.expires
        )

    # Roles

    async def AssumeRole(self, call: Call, input: Input) -> Output:
        for parameter in ("SerialNumber", "TokenCode", "ProvidedContexts", "MinimumSessionTokenSize"):
            if parameter in input:
                raise not_implemented(f"AssumeRole with {parameter}")
        if ":assumed-role/" in call.principal and input.get("DurationSeconds", _HOUR) > _HOUR:
            raise AwsError(
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
                status=400,
            )
        role = await self._role(input["RoleArn"])
        if role is None:
            raise AwsError(
                "AccessDenied",
                f"User: {call.principal} is not authorized to perform: sts:AssumeRole on resource: {input['RoleArn']}",
                status=403,
            )
        if self.cloud.config.auth == "enforce":
            context = {"sts:RoleSessionName": input["RoleSessionName"]}
            if "ExternalId" in input:
                context["sts:ExternalId"] = input["ExternalId"]
            await (await self._iam()).check_trust(call, "sts:AssumeRole", role, context)
        caller = await self.session(call.access_key)
        output = await self._assume(role, input["RoleSessionName"], input, caller)
        if "SourceIdentity" in input:
            output["SourceIdentity"] = input["SourceIdentity"]
        return output

    async def AssumeRoleWithWebIdentity(self, call: Call, input: Input) -> Output:
        for parameter in ("ProviderId", "MinimumSessionTokenSize"):
            if parameter in input:
                raise not_implemented(f"AssumeRoleWithWebIdentity with {parameter}")
        if self.cloud.config.auth == "enforce":
            raise not_implemented("AssumeRoleWithWebIdentity where signatures are enforced: tokens are not verified")
        role = await self._role(input["RoleArn"])
        if role is None:
            raise AwsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", status=403)
        iam = await self._iam()
        account = input["RoleArn"].split(":")[4]
        identity = web_identity.read(input["WebIdentityToken"], self.clock.now())
        provider = f"arn:aws:iam::{account}:oidc-provider/{identity.issuer}"
        identity.check_audience(iam.client_ids(account, provider))
        output = await self._assume(role, input["RoleSessionName"], input)
        return {
            **output,
            "SubjectFromWebIdentityToken": identity.subject,
            "Audience": identity.audience,
            "Provider": provider,
        }

    async def AssumeRoleWithSAML(self, call: Call, input: Input) -> Output:
        if self.cloud.config.auth == "enforce":
            raise not_implemented("AssumeRoleWithSAML where signatures are enforced: assertions are not verified")
        role = await self._role(input["RoleArn"])
        if role is None:
            raise AwsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML", status=403)
        assertion = saml.read(input["SAMLAssertion"], self.clock.now())
        assertion.check_role(input["RoleArn"], input["PrincipalArn"])
        asked = {"DurationSeconds": assertion.seconds or _HOUR, **input}
        output = await self._assume(role, assertion.session_name, asked)
        account, provider = input["RoleArn"].split(":")[4], input["PrincipalArn"].rpartition("/")[2]
        return {
            **output,
            "Subject": assertion.subject,
            "SubjectType": assertion.subject_type,
            "Issuer": assertion.issuer,
            "Audience": assertion.audience,
            "NameQualifier": saml.name_qualifier(assertion.issuer, account, provider),
        }

    async def DecodeAuthorizationMessage(self, call: Call, input: Input) -> Output:
        # No service here encodes its refusals, so that no message can be one of ours.
        raise AwsError("InvalidAuthorizationMessageException", "Message is not valid")

    async def _assume(self, role: Role, name: str, input: Input, caller: Session | None = None) -> Output:
        seconds = input.get("DurationSeconds", _HOUR)
        if seconds > role.members["MaxSessionDuration"]:
            raise AwsError(
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
                status=400,
            )
        account = role.members["Arn"].split(":", 5)[4]
        arn = f"arn:aws:sts::{account}:assumed-role/{role.members['RoleName']}/{name}"
        user_id = f"{role.members['RoleId']}:{name}"
        issued = await self._issue(account, arn, user_id, seconds, input, caller=caller)
        return {**issued, "AssumedRoleUser": {"AssumedRoleId": user_id, "Arn": arn}}

    async def _role(self, arn: str) -> Role | None:
        """The role of an ARN in whichever account it is. Raises ValidationError."""
        parts = arn.split(":", 5)
        if len(parts) != 6 or parts[2] != "iam" or not parts[5].startswith("role/"):
            raise AwsError("ValidationError", f"{arn} is invalid", status=400)
        return (await self._iam()).find_role(arn)

    # Users

    async def GetSessionToken(self, call: Call, input: Input) -> Output:
        for parameter in ("SerialNumber", "TokenCode", "MinimumSessionTokenSize"):
            if parameter in input:
                raise not_implemented(f"GetSessionToken with {parameter}")
        await self._refuse_session(call)
        return await self._issue(call.account, call.principal, await self._user_id(call), _seconds(call, input), input)

    async def GetFederationToken(self, call: Call, input: Input) -> Output:
        if "MinimumSessionTokenSize" in input:
            raise not_implemented("GetFederationToken with MinimumSessionTokenSize")
        await self._refuse_session(call)
        arn = f"arn:aws:sts::{call.account}:federated-user/{input['Name']}"
        user_id = f"{call.account}:{input['Name']}"
        issued = await self._issue(call.account, arn, user_id, _seconds(call, input), input, call.principal)
        return {**issued, "FederatedUser": {"FederatedUserId": user_id, "Arn": arn}}

    async def _refuse_session(self, call: Call) -> None:
        if await self.credential(call.access_key) is not None:
            raise AwsError("AccessDenied", f"Cannot call {call.operation} with session credentials", status=403)

    async def _user_id(self, call: Call) -> str:
        session = await self.session(call.access_key)
        if session is not None:
            return session.user_id
        user_id = (await self._iam()).user_id(call.principal) if ":user/" in call.principal else None
        return user_id or call.account

    # Sessions

    async def _issue(
        self,
        account: str,
        principal: str,
        user_id: str,
        seconds: float,
        input: Input,
        issuer: str = "",
        caller: Session | None = None,
    ) -> Output:
        """New credentials, stored; as every operation that gives some answers them."""
        own, transitive = tags.of_session(input, caller)
        packed = policies.check_session(input)
        now = self.clock.now()
        access_key = new_id("ASIA")
        session = Session(
            secret=new_secret(),
            token=base64.b64encode(secrets.token_bytes(_TOKEN)).decode(),
            account=account,
            principal=principal,
            user_id=user_id,
            expires=float(int(now + seconds)),
            policies=policies.of_session(input),
            tags=own,
            transitive=transitive,
            source_identity=input.get("SourceIdentity", ""),
            issuer=issuer,
        )
        await self.db.write(lambda tx: add(tx, access_key, session, now))
        self._remember(access_key, session)
        output: dict[str, Any] = {
            "Credentials": {
                "AccessKeyId": access_key,
                "SecretAccessKey": session.secret,
                "SessionToken": session.token,
                "Expiration": session.expires,
            }
        }
        if packed:
            output["PackedPolicySize"] = packed
        return output

    async def _find(self, access_key: str) -> Session | None:
        if not access_key.startswith("ASIA"):
            return None
        session = await self.db.read(lambda tx: find(tx, access_key))
        if session is not None:
            self._remember(access_key, session)
        return session

    def _remember(self, access_key: str, session: Session) -> None:
        if len(self._sessions) >= _REMEMBERED:
            self._sessions.clear()
        self._sessions[access_key] = session

    async def _iam(self) -> Iam:
        return await self.cloud.service("iam")  # type: ignore[return-value]


def _seconds(call: Call, input: Input) -> int:
    """How long a token of the caller's is good: at most an hour for an account's root."""
    asked: int = input.get("DurationSeconds", _SESSION)
    return min(asked, _HOUR) if call.principal.endswith(":root") else asked
