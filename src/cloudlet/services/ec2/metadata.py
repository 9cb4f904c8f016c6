"""The instance metadata service, versions 1 and 2: at 169.254.169.254 within an instance's own network.

Where instances share this machine's network, it is behind a front door whose URL the SDKs find in their environment.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cloudlet.engines.containers.namespaces import listen
from cloudlet.errors import AwsError
from cloudlet.places import zones
from cloudlet.services.ec2.kinds import INTERFACE
from cloudlet.services.ec2.records import Item

if TYPE_CHECKING:
    from cloudlet.services.ec2.service import Service

ADDRESS = "169.254.169.254"
DOOR = "ec2-instance"
_PORT = 80
_TOKEN = "x-aws-ec2-metadata-token"
_LONGEST = 6 * 3600
Answer = tuple[int, str]
_WORDS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


class MetadataServers:
    """One listener for each instance that has a network of its own."""

    def __init__(self, ec2: Service) -> None:
        self._ec2 = ec2
        self._servers: dict[str, asyncio.Server] = {}
        self._tokens: dict[str, dict[str, float]] = {}  # instance -> token -> until when

    async def open(self, scope: str, id: str, namespace: str) -> None:
        """Listen within an instance's network. Raises OSError."""
        if id in self._servers:
            return
        socket = await asyncio.to_thread(listen, namespace, ADDRESS, _PORT)

        async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(scope, id, reader, writer)

        self._servers[id] = await asyncio.start_server(joined, sock=socket)

    def close(self, id: str) -> None:
        """The instance goes."""
        self._tokens.pop(id, None)
        if (server := self._servers.pop(id, None)) is not None:
            server.close()

    def close_all(self) -> None:
        """Close all."""
        for id in list(self._servers):
            self.close(id)

    async def _serve(self, scope: str, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of an instance: a line, headers, no body."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ", 2)
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
            }
            status, text = await self.answer(scope, id, method, path, headers)
            body = text.encode()
            writer.write(
                f"HTTP/1.1 {status} {_WORDS[status]}\r\nServer: EC2ws\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError):
            pass  # whoever asked has gone, or did not speak HTTP
        finally:
            writer.close()

    async def answer(self, scope: str, id: str, method: str, path: str, headers: dict[str, str]) -> Answer:
        """What an instance is told: a status and a text."""
        item = self._ec2.world(scope).find(id)
        if item is None or item.shown["MetadataOptions"]["HttpEndpoint"] == "disabled":
            return 404, ""
        now = self._ec2.clock.now()
        tokens = self._tokens.setdefault(id, {})
        if path.rstrip("/").endswith("/api/token"):
            seconds = headers.get(f"{_TOKEN}-ttl-seconds", "")
            if method != "PUT" or not seconds.isdigit() or not 0 < int(seconds) <= _LONGEST:
                return 400, ""
            token = base64.b64encode(secrets.token_bytes(40)).decode()
            for old in [one for one, until in tokens.items() if until <= now]:
                del tokens[old]
            tokens[token] = now + int(seconds)
            return 200, token
        given = headers.get(_TOKEN)
        is_needed = item.shown["MetadataOptions"]["HttpTokens"] == "required"
        if (given is None and is_needed) or (given is not None and tokens.get(given, 0) <= now):
            return 401, ""
        parts = [part for part in path.partition("?")[0].split("/") if part]
        found = await self._found(scope, item, parts[1:])
        return (404, "") if found is None else (200, found)

    async def _found(self, scope: str, item: Item, parts: list[str]) -> str | None:
        if not parts:
            return "dynamic\nmeta-data\nuser-data"
        if parts[0] == "user-data":
            data = item.hidden["user_data"]
            return base64.b64decode(data).decode(errors="replace") if data else None
        if parts[0] == "dynamic":
            return self._dynamic(scope, item, parts[1:])
        if parts[0] != "meta-data":
            return None
        if parts[1:3] == ["iam", "security-credentials"]:
            return await self._credentials(scope, item, parts[3:])
        return _walk(self._tree(scope, item), parts[1:])

    def _dynamic(self, scope: str, item: Item, parts: list[str]) -> str | None:
        document = json.dumps(identity(scope, item), indent=2)
        names = {"document": document, "signature": base64.b64encode(document.encode()).decode(), "pkcs7": ""}
        return _walk({"instance-identity": names}, parts)

    def _tree(self, scope: str, item: Item) -> dict[str, Any]:
        world, shown = self._ec2.world(scope), item.shown
        region, zone = scope.split("/")[1], shown["Placement"]["AvailabilityZone"]
        interface = world.get(INTERFACE, item.hidden["interfaces"][0])
        groups = interface.shown["Groups"]
        public = str(item.hidden.get("address", "")) if item.hidden["public"] else ""
        mac = interface.shown["MacAddress"]
        network = {
            "device-number": "0",
            "interface-id": interface.id,
            "local-ipv4s": shown["PrivateIpAddress"],
            "mac": mac,
            "owner-id": world.account,
            "security-group-ids": "\n".join(group["GroupId"] for group in groups),
            "subnet-id": shown["SubnetId"],
            "vpc-id": shown["VpcId"],
            **({"public-ipv4s": public} if public else {}),
        }
        tree: dict[str, Any] = {
            "ami-id": shown["ImageId"],
            "ami-launch-index": str(shown["AmiLaunchIndex"]),
            "hostname": shown["PrivateDnsName"],
            "instance-action": "none",
            "instance-id": item.id,
            "instance-life-cycle": "on-demand",
            "instance-type": shown["InstanceType"],
            "local-hostname": shown["PrivateDnsName"],
            "local-ipv4": shown["PrivateIpAddress"],
            "mac": mac,
            "network": {"interfaces": {"macs": {mac: network}}},
            "placement": {
                "availability-zone": zone,
                "availability-zone-id": zones(region).get(zone, ""),
                "region": region,
            },
            "reservation-id": item.hidden["reservation"],
            "security-groups": "\n".join(group["GroupName"] for group in groups),
            "services": {"domain": "amazonaws.com", "partition": "aws"},
        }
        if public:
            tree["public-ipv4"] = public
        if profile := shown.get("IamInstanceProfile"):
            facts = {"Code": "Success", "InstanceProfileArn": profile["Arn"], "InstanceProfileId": profile["Id"]}
            tree["iam"] = {"info": json.dumps(facts, indent=2), "security-credentials": {}}
        if shown["MetadataOptions"]["InstanceMetadataTags"] == "enabled":
            tree["tags"] = {"instance": dict(item.tags)}
        return tree

    async def _credentials(self, scope: str, item: Item, parts: list[str]) -> str | None:
        """Those of the role in the instance's profile."""
        profile = item.shown.get("IamInstanceProfile")
        if profile is None:
            return None
        account, region = scope.split("/")
        ask = {"InstanceProfileName": profile["Arn"].rpartition("/")[2]}
        try:
            found = await self._ec2.cloud.call("iam", "GetInstanceProfile", ask, account=account, region=region)
            roles = found["InstanceProfile"]["Roles"]
            if not roles or not parts:
                return roles[0]["RoleName"] if roles else None
            if parts[0] != roles[0]["RoleName"]:
                return None
            made = await self._ec2.cloud.call(
                "sts",
                "AssumeRole",
                {"RoleArn": roles[0]["Arn"], "RoleSessionName": item.id},
                account=account,
                region=region,
                principal="ec2.amazonaws.com",
            )
        except AwsError:
            return None
        keys = made["Credentials"]
        return json.dumps(
            {
                "Code": "Success",
                "LastUpdated": _moment(self._ec2.clock.now()),
                "Type": "AWS-HMAC",
                "AccessKeyId": keys["AccessKeyId"],
                "SecretAccessKey": keys["SecretAccessKey"],
                "Token": keys["SessionToken"],
                "Expiration": _moment(keys["Expiration"]),
            },
            indent=2,
        )


def identity(scope: str, item: Item) -> dict[str, Any]:
    """The instance identity document."""
    account, region = scope.split("/")
    return {
        "accountId": account,
        "architecture": item.shown["Architecture"],
        "availabilityZone": item.shown["Placement"]["AvailabilityZone"],
        "imageId": item.shown["ImageId"],
        "instanceId": item.id,
        "instanceType": item.shown["InstanceType"],
        "pendingTime": _moment(item.shown["LaunchTime"]),
        "privateIp": item.shown.get("PrivateIpAddress", ""),
        "region": region,
        "version": "2017-09-30",
    }


def _walk(tree: dict[str, Any], parts: list[str]) -> str | None:
    """A leaf, or the names in a branch, branches among them with a slash."""
    found: Any = tree
    for part in parts:
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    if isinstance(found, dict):
        return "\n".join(f"{name}/" if isinstance(value, dict) else name for name, value in sorted(found.items()))
    return str(found)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
