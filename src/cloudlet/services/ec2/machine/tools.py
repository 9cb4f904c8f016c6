"""Programs of a machine image, run inside an instance by a Python of this machine: nothing but its own library.

``python tools.py <program> <arguments>``. What is not really there fails by its name.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

_METADATA = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
_CONFIGURATION = "/etc/ecs/ecs.config"
_STATE = "/var/lib/ecs/data/agent.json"
# What the image really has.
_PACKAGES = {"aws-cfn-bootstrap", "ecs-init", "cloud-init", "bash", "coreutils"}
_PROGRAMS = {"awscli": "aws", "aws-cli": "aws", "python3": "python3", "jq": "jq", "curl": "curl", "nodejs": "node"}


def metadata(path: str) -> str:
    """What the instance's metadata service says. Raises OSError."""
    ask = urllib.request.Request(
        f"{_METADATA}/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    )
    token = urllib.request.urlopen(ask, timeout=10).read().decode()
    ask = urllib.request.Request(f"{_METADATA}/latest/{path}", headers={"X-aws-ec2-metadata-token": token})
    text: str = urllib.request.urlopen(ask, timeout=10).read().decode()
    return text


def credentials() -> dict[str, str]:
    """Those of the instance's role. Raises OSError where it has none."""
    role = metadata("meta-data/iam/security-credentials/").strip()
    found: dict[str, str] = json.loads(metadata(f"meta-data/iam/security-credentials/{role}"))
    return found


def call(service: str, region: str, body: bytes, headers: dict[str, str]) -> bytes:
    """One signed request (Signature Version 4). Raises OSError."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    keys = credentials()
    moment = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017 - the Python here may be an old one
    date, day = moment.strftime("%Y%m%dT%H%M%SZ"), moment.strftime("%Y%m%d")
    signed = {
        **{name.lower(): value for name, value in headers.items()},
        "host": urllib.parse.urlsplit(endpoint).netloc,
        "x-amz-date": date,
        "x-amz-security-token": keys["Token"],
    }
    names = ";".join(sorted(signed))
    digest = hashlib.sha256(body).hexdigest()
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    canonical = f"POST\n/\n\n{lines}\n{names}\n{digest}"
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    request = urllib.request.Request(f"{endpoint}/", body, signed)
    answer: bytes = urllib.request.urlopen(request, timeout=60).read()
    return answer


def cfn_signal(arguments: list[str]) -> int:
    """Tell CloudFormation how an instance's set-up has ended."""
    parser = argparse.ArgumentParser("cfn-signal", add_help=False)
    parser.add_argument("-s", "--success", default=None)
    parser.add_argument("-e", "--exit-code", type=int, default=None)
    parser.add_argument("-i", "--id", default=None)
    parser.add_argument("-r", "--reason", default="")
    parser.add_argument("-d", "--data", default="")
    for name in ("--stack", "--resource", "--region", "--url", "--role", "--credential-file"):
        parser.add_argument(name, default="")
    for name in ("--access-key", "--secret-key", "--http-proxy", "--https-proxy"):
        parser.add_argument(name, default="")
    parser.add_argument("handle", nargs="?", default="")
    given = parser.parse_args(arguments)
    good = given.exit_code == 0 if given.exit_code is not None else given.success != "false"
    status = "SUCCESS" if good else "FAILURE"
    id = given.id or metadata("meta-data/instance-id")
    if given.handle:
        document = {"Status": status, "UniqueId": id, "Reason": given.reason, "Data": given.data}
        request = urllib.request.Request(
            given.handle, json.dumps(document).encode(), {"Content-Type": ""}, method="PUT"
        )
        urllib.request.urlopen(request, timeout=60).read()
        return 0
    region = given.region or metadata("meta-data/placement/region")
    form = {
        "Action": "SignalResource",
        "Version": "2010-05-15",
        "StackName": given.stack,
        "LogicalResourceId": given.resource,
        "UniqueId": id,
        "Status": status,
    }
    body = urllib.parse.urlencode(form).encode()
    call("cloudformation", region, body, {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
    return 0


def ecs_agent(arguments: list[str]) -> int:
    """Register this instance with its cluster. Starting its tasks is the control plane's."""
    settings = _settings()
    identity = metadata("dynamic/instance-identity/document")
    region = json.loads(identity)["region"]
    cluster = settings.get("ECS_CLUSTER") or "default"
    own = json.loads(settings.get("ECS_INSTANCE_ATTRIBUTES") or "{}")
    reserved = int(settings.get("ECS_RESERVED_MEMORY") or 0)
    ports = json.loads(settings.get("ECS_RESERVED_PORTS") or "[]")
    udp = json.loads(settings.get("ECS_RESERVED_PORTS_UDP") or "[]")
    tags = json.loads(settings.get("ECS_CONTAINER_INSTANCE_TAGS") or "{}")
    known: dict[str, str] = {}
    if os.path.exists(_STATE):
        with open(_STATE) as file:
            known = json.load(file)
    cpu, memory = int(os.environ["CLOUDLET_CPU"]), int(os.environ["CLOUDLET_MEMORY"])
    body: dict[str, Any] = {
        "cluster": cluster,
        "instanceIdentityDocument": identity,
        "instanceIdentityDocumentSignature": metadata("dynamic/instance-identity/signature"),
        "totalResources": [
            {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": memory - reserved},
            {
                "name": "PORTS",
                "type": "STRINGSET",
                "stringSetValue": _ports(["22", "2375", "2376", "51678", "51679"], ports),
            },
            {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": _ports([], udp)},
        ],
        "versionInfo": {"agentVersion": "1.87.0", "agentHash": "cloudlet", "dockerVersion": "DockerVersion: 20.10.25"},
        "attributes": [{"name": name, "value": str(value)} for name, value in own.items()],
        "tags": [{"key": key, "value": str(value)} for key, value in tags.items()],
    }
    if known.get("cluster") == cluster:
        body["containerInstanceArn"] = known["arn"]
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.RegisterContainerInstance",
    }
    answer = json.loads(call("ecs", region, json.dumps(body).encode(), headers))
    arn = answer["containerInstance"]["containerInstanceArn"]
    os.makedirs(os.path.dirname(_STATE), exist_ok=True)
    with open(_STATE, "w") as file:
        json.dump({"cluster": cluster, "arn": arn}, file)
    print(f"ecs-agent: registered as {arn}")
    return 0


def _settings() -> dict[str, str]:
    """The agent's: ecs.config has one NAME=value a line."""
    try:
        with open(_CONFIGURATION) as file:
            lines = [line.strip() for line in file if "=" in line and not line.lstrip().startswith("#")]
    except OSError:
        return {}
    pairs = [line.partition("=") for line in lines]
    return {name.strip(): re.sub(r"^(['\"])(.*)\1$", r"\2", value.strip()) for name, _, value in pairs}


def _ports(always: list[str], more: list[int]) -> list[str]:
    return list(dict.fromkeys([*always, *map(str, more)]))


def package_manager(name: str, arguments: list[str]) -> int:
    """``yum``, ``dnf``: what the image has is there already; nothing else can be installed."""
    words = [word for word in arguments if not word.startswith("-")]
    verb, wanted = (words[0], words[1:]) if words else ("", [])
    if (verb in ("update", "upgrade", "makecache", "clean") and not wanted) or verb == "clean":
        print("No packages marked for update")
        return 0
    if verb != "install":
        return refused(name, verb)
    missing = [one for one in wanted if one not in _PACKAGES and not _there(_PROGRAMS.get(one, one))]
    for one in wanted:
        print(
            f"No package {one} available." if one in missing else f"Package {one} already installed and latest version"
        )
    if missing:
        print(f"Error: Cloudlet's machine image cannot install: {', '.join(missing)}", file=sys.stderr)
        return 1
    print("Nothing to do")
    return 0


def _there(program: str) -> bool:
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in os.environ["PATH"].split(":"))


def service_manager(name: str, arguments: list[str]) -> int:
    """``systemctl``, ``service``, ``start``: of services, the image has the ECS agent."""
    words = [word for word in arguments if not word.startswith("-")]
    if name == "service":
        words.reverse()
    elif name in ("start", "stop", "restart"):
        words.insert(0, name)
    verb, units = (words[0], [re.sub(r"\.service$", "", unit) for unit in words[1:]]) if words else ("", [])
    if verb == "daemon-reload":
        return 0
    for unit in units:
        if unit != "ecs" or not os.path.isdir("/etc/ecs"):
            print(f"Failed to {verb} {unit}.service: Unit {unit}.service not found.", file=sys.stderr)
            return 5
        if verb in ("start", "restart") or (verb == "enable" and "--now" in arguments):
            subprocess.run([sys.executable, "-I", __file__, "ecs-agent"], check=True)
        elif verb != "enable":
            return refused(name, f"{verb} {unit}")
    return 0


def refused(name: str, what: str) -> int:
    """What is not here."""
    print(f"{name}: Cloudlet's machine image does not implement {name} {what}".rstrip(), file=sys.stderr)
    return 1


def main(name: str, arguments: list[str]) -> int:
    """Run a program; its exit status."""
    try:
        if name == "cfn-signal":
            return cfn_signal(arguments)
        if name == "ecs-agent":
            return ecs_agent(arguments)
        if name in ("yum", "dnf"):
            return package_manager(name, arguments)
        if name in ("systemctl", "service", "start", "stop", "restart"):
            return service_manager(name, arguments)
    except urllib.error.HTTPError as error:
        print(f"{name}: {error.code} {error.read().decode(errors='replace')}", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return refused(name, "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
