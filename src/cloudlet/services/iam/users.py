"""Users, their keys and passwords, and the groups that they are in."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import msgspec

from cloudlet.control.clock import Clock
from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.iam.credentials import new_id, new_secret
from cloudlet.services.iam.entities import (
    Entities,
    checked_tags,
    conflict,
    exists,
    no_such,
    page,
    public,
    scope_of,
)
from cloudlet.services.iam.records import KEYS, AccessKey, Group, User
from cloudlet.store import Tx
from cloudlet.wire.signature import Credential

_MOST_KEYS = 2


class Users(Entities):
    """Operations on users and groups."""

    clock: Clock

    async def CreateUser(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input["UserName"]
        members = self._new(call, "user", "User", "AIDA", input)

        def work(tx: Tx) -> dict[str, Any]:
            if self.users.get(scope, name, tx) is not None:
                raise exists(f"User with name {name} already exists.")
            user = User(members)
            if "PermissionsBoundary" in input:
                user = self.bounded(tx, call, "User", name, user, input["PermissionsBoundary"])
            self.users.put(tx, scope, name, user)
            return user.members

        return {"User": await self.db.write(work)}

    async def GetUser(self, call: Call, input: Input) -> Output:
        name = input.get("UserName") or self._caller(call)
        if not name:
            root = {"UserId": call.account, "Arn": f"arn:aws:iam::{call.account}:root", "CreateDate": self.clock.now()}
            return {"User": root}
        return {"User": self.entity("User", scope_of(call), name).members}

    async def ListUsers(self, call: Call, input: Input) -> Output:
        return page("Users", self._listed("User", call, input), input)

    async def UpdateUser(self, call: Call, input: Input) -> Output:
        await self._rename("User", "user", call, input)
        return {}

    async def DeleteUser(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input["UserName"]

        def work(tx: Tx) -> None:
            user: User = self.entity("User", scope, name, tx)
            for reason, held in (
                ("detach all policies", user.attached),
                ("delete policies", user.inline),
                ("remove user from all groups", user.groups),
                ("delete access keys", user.keys),
                ("delete login profile", user.login),
                ("deactivate MFA devices", user.devices),
                ("delete signing certificates", user.signing),
            ):
                if held:
                    raise conflict(f"Cannot delete entity, must {reason} first.")
            self.unbound(tx, scope, "User", name, user)
            self.users.delete(tx, scope, name)

        await self.db.write(work)
        return {}

    # Access keys

    async def CreateAccessKey(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input.get("UserName") or self._caller(call)
        access_key = new_id("AKIA")
        key = AccessKey(call.account, name, new_secret(), self.clock.now())

        def work(tx: Tx) -> None:
            if name:
                user: User = self.entity("User", scope, name, tx)
                if len(user.keys) >= _MOST_KEYS:
                    raise _too_many_keys()
                self.users.put(tx, scope, name, msgspec.structs.replace(user, keys=[*user.keys, access_key]))
                self.keys.put(tx, KEYS, access_key, key)
            else:
                self.put_root_key(tx, scope, access_key, key)

        await self.db.write(work)
        shown = _shown(access_key, key)
        return {"AccessKey": {**shown, "UserName": name or "root", "SecretAccessKey": key.secret}}

    async def ListAccessKeys(self, call: Call, input: Input) -> Output:
        name = input.get("UserName") or self._caller(call)
        if name:
            ids = self.entity("User", scope_of(call), name).keys
        else:
            ids = self.account(scope_of(call)).root_keys
        found = [_shown(one, record.value) for one in ids if (record := self.keys.get(KEYS, one)) is not None]
        return page("AccessKeyMetadata", found, input)

    async def UpdateAccessKey(self, call: Call, input: Input) -> Output:
        def work(tx: Tx) -> None:
            key = self._key(call, input, tx)
            self.keys.put(tx, KEYS, input["AccessKeyId"], msgspec.structs.replace(key, status=input["Status"]))

        await self.db.write(work)
        return {}

    async def DeleteAccessKey(self, call: Call, input: Input) -> Output:
        scope, access_key = scope_of(call), input["AccessKeyId"]

        def work(tx: Tx) -> None:
            key = self._key(call, input, tx)
            if key.user:
                user: User = self.entity("User", scope, key.user, tx)
                left = [one for one in user.keys if one != access_key]
                self.users.put(tx, scope, key.user, msgspec.structs.replace(user, keys=left))
            else:
                account = self.account(scope, tx)
                left = [one for one in account.root_keys if one != access_key]
                self.accounts.put(tx, scope, "account", msgspec.structs.replace(account, root_keys=left))
            self.keys.delete(tx, KEYS, access_key)

        await self.db.write(work)
        return {}

    async def GetAccessKeyLastUsed(self, call: Call, input: Input) -> Output:
        record = self.keys.get(KEYS, input["AccessKeyId"])
        if record is None or record.value.account != call.account:
            raise no_such(f"The Access Key with id {input['AccessKeyId']} cannot be found.")
        return {"UserName": record.value.user, "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}

    async def credential(self, access_key: str) -> Credential | None:
        """What a signature of this key is verified with; None when nobody has the key, or it is inactive."""
        record = self.keys.get(KEYS, access_key)
        if record is None or record.value.status != "Active":
            return None
        key = record.value
        principal = f"arn:aws:iam::{key.account}:root"
        if key.user:
            principal = self.entity("User", f"{key.account}/global", key.user).members["Arn"]
        return Credential(access_key, key.secret, key.account, principal)

    def put_root_key(self, tx: Tx, scope: str, access_key: str, key: AccessKey) -> None:
        """Store a key of an account's root. Raises LimitExceeded."""
        account = self.account(scope, tx)
        if len(account.root_keys) >= _MOST_KEYS:
            raise _too_many_keys()
        changed = msgspec.structs.replace(account, root_keys=[*account.root_keys, access_key])
        self.accounts.put(tx, scope, "account", changed)
        self.keys.put(tx, KEYS, access_key, key)

    def _key(self, call: Call, input: Input, tx: Tx) -> AccessKey:
        record = self.keys.get(KEYS, input["AccessKeyId"], tx)
        owner = input.get("UserName")
        if record is None or record.value.account != call.account or (owner and record.value.user != owner):
            raise no_such(f"The Access Key with id {input['AccessKeyId']} cannot be found.")
        return record.value

    # Passwords

    async def CreateLoginProfile(self, call: Call, input: Input) -> Output:
        name = input.get("UserName") or self._caller(call)
        login = {"CreateDate": self.clock.now(), "PasswordResetRequired": input.get("PasswordResetRequired", False)}

        def change(tx: Tx, user: User) -> User:
            if user.login is not None:
                raise exists(f"Login Profile for user {name} already exists.")
            return msgspec.structs.replace(user, login=login, password=_hashed(input.get("Password", "")))

        await self.change("User", call, name, change)
        return {"LoginProfile": {"UserName": name, **login}}

    async def GetLoginProfile(self, call: Call, input: Input) -> Output:
        name = input.get("UserName") or self._caller(call)
        user: User = self.entity("User", scope_of(call), name)
        return {"LoginProfile": {"UserName": name, **_login(user, name)}}

    async def UpdateLoginProfile(self, call: Call, input: Input) -> Output:
        name = input["UserName"]

        def change(tx: Tx, user: User) -> User:
            login = dict(_login(user, name))
            if "PasswordResetRequired" in input:
                login["PasswordResetRequired"] = input["PasswordResetRequired"]
            password = _hashed(input["Password"]) if "Password" in input else user.password
            return msgspec.structs.replace(user, login=login, password=password)

        await self.change("User", call, name, change)
        return {}

    async def DeleteLoginProfile(self, call: Call, input: Input) -> Output:
        name = input.get("UserName") or self._caller(call)

        def change(tx: Tx, user: User) -> User:
            _login(user, name)
            return msgspec.structs.replace(user, login=None, password="")

        await self.change("User", call, name, change)
        return {}

    # Groups

    async def CreateGroup(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input["GroupName"]
        members = self._new(call, "group", "Group", "AGPA", input)

        def work(tx: Tx) -> None:
            if self.groups.get(scope, name, tx) is not None:
                raise exists(f"Group with name {name} already exists.")
            self.groups.put(tx, scope, name, Group(members))

        await self.db.write(work)
        return {"Group": members}

    async def GetGroup(self, call: Call, input: Input) -> Output:
        scope = scope_of(call)
        group: Group = self.entity("Group", scope, input["GroupName"])
        users = [self.entity("User", scope, name).members for name in group.users]
        return {"Group": group.members, **page("Users", users, input)}

    async def ListGroups(self, call: Call, input: Input) -> Output:
        return page("Groups", self._listed("Group", call, input), input)

    async def ListGroupsForUser(self, call: Call, input: Input) -> Output:
        scope = scope_of(call)
        user: User = self.entity("User", scope, input["UserName"])
        return page("Groups", [self.entity("Group", scope, name).members for name in user.groups], input)

    async def UpdateGroup(self, call: Call, input: Input) -> Output:
        await self._rename("Group", "group", call, input)
        return {}

    async def DeleteGroup(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input["GroupName"]

        def work(tx: Tx) -> None:
            group: Group = self.entity("Group", scope, name, tx)
            for reason, held in (
                ("detach all policies", group.attached),
                ("delete policies", group.inline),
                ("remove users from group", group.users),
            ):
                if held:
                    raise conflict(f"Cannot delete entity, must {reason} first.")
            self.groups.delete(tx, scope, name)

        await self.db.write(work)
        return {}

    async def AddUserToGroup(self, call: Call, input: Input) -> Output:
        def join(names: list[str], name: str) -> list[str]:
            return names if name in names else [*names, name]

        await self._membership(call, input, join)
        return {}

    async def RemoveUserFromGroup(self, call: Call, input: Input) -> Output:
        def leave(names: list[str], name: str) -> list[str]:
            return [one for one in names if one != name]

        await self._membership(call, input, leave)
        return {}

    async def _membership(self, call: Call, input: Input, change: Any) -> None:
        scope, group_name, user_name = scope_of(call), input["GroupName"], input["UserName"]

        def work(tx: Tx) -> None:
            group: Group = self.entity("Group", scope, group_name, tx)
            user: User = self.entity("User", scope, user_name, tx)
            joined = msgspec.structs.replace(group, users=change(group.users, user_name))
            self.groups.put(tx, scope, group_name, joined)
            self.users.put(tx, scope, user_name, msgspec.structs.replace(user, groups=change(user.groups, group_name)))

        await self.db.write(work)

    # What is the same for several kinds

    def user_id(self, arn: str) -> str | None:
        """The unique id of the user with that ARN."""
        record = self.users.get(f"{arn.split(':', 5)[4]}/global", arn.rpartition("/")[2])
        return record.value.members["UserId"] if record is not None else None

    def _caller(self, call: Call) -> str:
        """The user who calls, empty for the root. Raises ValidationError for a session of a role."""
        _, slash, name = call.principal.rpartition("/")
        if slash and ":user/" in call.principal:
            return name
        if call.principal.startswith("arn:aws:sts:"):
            raise AwsError("ValidationError", "Must specify userName when calling with non-User credentials")
        return ""

    def _new(self, call: Call, word: str, kind: str, prefix: str, input: Input) -> dict[str, Any]:
        path, name = input.get("Path", "/"), input[f"{kind}Name"]
        members = {
            "Path": path,
            f"{kind}Name": name,
            f"{kind}Id": new_id(prefix),
            "Arn": f"arn:aws:iam::{call.account}:{word}{path}{name}",
            "CreateDate": self.clock.now(),
        }
        if tags := checked_tags(input.get("Tags", ())):
            members["Tags"] = tags
        return members

    def _listed(self, kind: str, call: Call, input: Input) -> list[dict[str, Any]]:
        prefix = input.get("PathPrefix", "/")
        found = [record.value.members for record in self.of_kind(kind).list(scope_of(call))]
        return [public(one, "Tags", "PermissionsBoundary") for one in found if one["Path"].startswith(prefix)]

    async def _rename(self, kind: str, word: str, call: Call, input: Input) -> None:
        """A new name or path; whatever refers to the old name is carried along."""
        scope = scope_of(call)
        name: str = input[f"{kind}Name"]
        new_name: str = input.get(f"New{kind}Name") or name
        kinds = self.of_kind(kind)

        def work(tx: Tx) -> None:
            entity = self.entity(kind, scope, name, tx)
            if new_name != name and kinds.get(scope, new_name, tx) is not None:
                raise exists(f"{kind} with name {new_name} already exists.")
            path = input.get("NewPath", entity.members["Path"])
            arn = f"arn:aws:iam::{call.account}:{word}{path}{new_name}"
            members = {**entity.members, "Path": path, f"{kind}Name": new_name, "Arn": arn}
            kinds.delete(tx, scope, name)
            kinds.put(tx, scope, new_name, msgspec.structs.replace(entity, members=members))
            if new_name == name:
                return
            tx.execute(
                "UPDATE attachment SET entity = ? WHERE scope = ? AND kind = ? AND entity = ?",
                (new_name, scope, kind, name),
            )
            if isinstance(entity, User):
                for key_id in entity.keys:
                    key = self.keys.get(KEYS, key_id, tx)
                    if key is not None:
                        self.keys.put(tx, KEYS, key_id, msgspec.structs.replace(key.value, user=new_name))
                for group_name in entity.groups:
                    group: Group = self.entity("Group", scope, group_name, tx)
                    users = [new_name if one == name else one for one in group.users]
                    self.groups.put(tx, scope, group_name, msgspec.structs.replace(group, users=users))
            else:
                for user_name in entity.users:
                    user: User = self.entity("User", scope, user_name, tx)
                    groups = [new_name if one == name else one for one in user.groups]
                    self.users.put(tx, scope, user_name, msgspec.structs.replace(user, groups=groups))

        await self.db.write(work)


def _too_many_keys() -> AwsError:
    return AwsError("LimitExceeded", f"Cannot exceed quota for AccessKeysPerUser: {_MOST_KEYS}", status=409)


def _shown(access_key: str, key: AccessKey) -> dict[str, Any]:
    user = {"UserName": key.user} if key.user else {}
    return {**user, "AccessKeyId": access_key, "Status": key.status, "CreateDate": key.created}


def _login(user: User, name: str) -> dict[str, Any]:
    if user.login is None:
        raise no_such(f"Login Profile for User {name} cannot be found.")
    return user.login


def _hashed(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}:{hashlib.scrypt(password.encode(), salt=salt, n=2**10, r=8, p=1).hex()}"
