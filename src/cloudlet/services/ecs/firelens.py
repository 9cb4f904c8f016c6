"""FireLens: a container of the task routes the log lines of the others. What its configuration file says. Pure.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_firelens.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloudlet.engines.containers.api import Mount
from cloudlet.errors import not_implemented
from cloudlet.services.ecs.base import client_error

DRIVER = "awsfirelens"
PORT = 24224
SOCKET = "fluent.sock"
_KINDS = ("fluentbit", "fluentd")
_FILES = {"fluentbit": "/fluent-bit/etc/fluent-bit.conf", "fluentd": "/fluentd/etc/fluent.conf"}
_FROM_S3 = {"fluentbit": "/fluent-bit/etc/external.conf", "fluentd": "/fluentd/etc/external.conf"}
_PLUGIN = {"fluentbit": "Name", "fluentd": "@type"}
_OURS = ("include-pattern", "exclude-pattern", "log-driver-buffer-limit")


def check(containers: list[dict[str, Any]]) -> None:
    """Raises ClientException for routers and routed containers that do not go together."""
    routers = [one for one in containers if one.get("firelensConfiguration")]
    routed = [one for one in containers if is_routed(one)]
    if len(routers) > 1:
        raise client_error("Only one container definition in a task can have a firelensConfiguration.")
    if routed and not routers:
        raise client_error(
            f"Container '{routed[0]['name']}' uses the awsfirelens log driver: the task definition must have a "
            "container definition with a firelensConfiguration."
        )
    for router in routers:
        kind = router["firelensConfiguration"]["type"]
        if is_routed(router):
            raise client_error(f"Container '{router['name']}' cannot route its own log lines.")
        options = router["firelensConfiguration"].get("options", {})
        if kind not in _KINDS:
            raise client_error(f"Invalid firelensConfiguration type: {kind}")
        if options.get("config-file-type", "file") not in ("s3", "file"):
            raise client_error("config-file-type must be s3 or file.")
        if ("config-file-type" in options) != ("config-file-value" in options):
            raise client_error("config-file-type and config-file-value must be specified together.")
        if other := set(options) - {"enable-ecs-log-metadata", "config-file-type", "config-file-value"}:
            raise not_implemented(f"RegisterTaskDefinition with the firelensConfiguration option {min(other)}")


def is_routed(members: dict[str, Any]) -> bool:
    """Whether a container's lines go to the task's router."""
    return (members.get("logConfiguration") or {}).get("logDriver") == DRIVER


def router(definition: dict[str, Any]) -> dict[str, Any] | None:
    """The container that routes, where there is one."""
    return next((one for one in definition["containerDefinitions"] if one.get("firelensConfiguration")), None)


def dependencies(definition: dict[str, Any], members: dict[str, Any]) -> list[dict[str, str]]:
    """What a container waits for, and is ended before: as it says itself, and its router."""
    found = list(members.get("dependsOn", ()))
    of_task = router(definition) if is_routed(members) else None
    if of_task is not None and of_task["name"] not in [one["containerName"] for one in found]:
        found.append({"containerName": of_task["name"], "condition": "START"})
    return found


def tag(members: dict[str, Any], task: str) -> str:
    """By which the router tells a container's lines."""
    return f"{members['name']}-firelens-{task}"


def mounts(kind: str, folder: Path, options: dict[str, str]) -> list[Mount]:
    """What the router is given: its configuration, and the folder where it makes its socket."""
    made = [Mount(str(folder / "fluent.conf"), _FILES[kind], True), Mount(str(folder / "socket"), "/var/run")]
    if options.get("config-file-type") == "s3":
        made.append(Mount(str(folder / "external.conf"), _FROM_S3[kind], True))
    return made


def configuration(definition: dict[str, Any], task: str, metadata: dict[str, str]) -> str:
    """The router's configuration file; ``metadata`` are the fields that every record gets."""
    of_task = router(definition)
    assert of_task is not None
    kind, options = of_task["firelensConfiguration"]["type"], of_task["firelensConfiguration"].get("options", {})
    routed = [one for one in definition["containerDefinitions"] if is_routed(one)]
    fields = metadata if options.get("enable-ecs-log-metadata", "true").lower() == "true" else {}
    listen = "127.0.0.1" if definition.get("networkMode") == "awsvpc" else "0.0.0.0"
    external = ""
    if options.get("config-file-type") == "s3":
        external = _FROM_S3[kind]
    elif "config-file-value" in options:
        external = options["config-file-value"]
    write = _fluent_bit if kind == "fluentbit" else _fluentd
    return write(routed, task, fields, listen, external)


def _fluent_bit(routed: list[dict[str, Any]], task: str, fields: dict[str, str], listen: str, external: str) -> str:
    parts = [
        _section("INPUT", {"Name": "forward", "unix_path": f"/var/run/{SOCKET}"}),
        _section("INPUT", {"Name": "forward", "Listen": listen, "Port": str(PORT)}),
    ]
    for one in routed:
        for option, word in (("include-pattern", "Regex"), ("exclude-pattern", "Exclude")):
            if option in _options(one):
                rule = {"Name": "grep", "Match": tag(one, task), word: f"log {_options(one)[option]}"}
                parts.append(_section("FILTER", rule))
    if fields:
        lines = "".join(f"    Record {name} {value}\n" for name, value in fields.items())
        parts.append(_section("FILTER", {"Name": "record_modifier", "Match": "*"}) + lines)
    if external:
        parts.append(f"@INCLUDE {external}\n")
    for one in routed:
        if "Name" in _options(one):
            rest = {name: value for name, value in _options(one).items() if name not in (*_OURS, "Name")}
            secret = {name: f"${{{variable(name, one)}}}" for name in _secret_names(one)}
            parts.append(_section("OUTPUT", {"Name": _options(one)["Name"], "Match": tag(one, task), **rest, **secret}))
    return "\n".join(parts)


def _fluentd(routed: list[dict[str, Any]], task: str, fields: dict[str, str], listen: str, external: str) -> str:
    parts = [
        _element("source", {"@type": "unix", "path": f"/var/run/{SOCKET}"}),
        _element("source", {"@type": "forward", "bind": listen, "port": str(PORT)}),
    ]
    for one in routed:
        for option, word in (("include-pattern", "regexp"), ("exclude-pattern", "exclude")):
            if option in _options(one):
                inner = f"    <{word}>\n        key log\n        pattern {_options(one)[option]}\n    </{word}>\n"
                parts.append(_element(f"filter {tag(one, task)}", {"@type": "grep"}, inner))
    if fields:
        inner = "".join(f"        {name} {value}\n" for name, value in fields.items())
        record = f"    <record>\n{inner}    </record>\n"
        parts.append(_element("filter **", {"@type": "record_transformer"}, record))
    if external:
        parts.append(f"@include {external}\n")
    for one in routed:
        if "@type" in _options(one):
            rest = {name: value for name, value in _options(one).items() if name not in (*_OURS, "@type")}
            secret = {name: f"\"#{{ENV['{variable(name, one)}']}}\"" for name in _secret_names(one)}
            parts.append(_element(f"match {tag(one, task)}", {"@type": _options(one)["@type"], **rest, **secret}))
    return "\n".join(parts)


def variable(option: str, members: dict[str, Any]) -> str:
    """The router's environment variable that has a secret option of a container."""
    return f"{option}_{members['name']}"


def secrets(definition: dict[str, Any]) -> dict[str, str]:
    """The router's variables, and where their values are."""
    return {
        variable(one["name"], members): one["valueFrom"]
        for members in definition["containerDefinitions"]
        if is_routed(members)
        for one in members["logConfiguration"].get("secretOptions", ())
    }


def _options(members: dict[str, Any]) -> dict[str, str]:
    return members["logConfiguration"].get("options", {})  # type: ignore[no-any-return]


def _secret_names(members: dict[str, Any]) -> list[str]:
    return [one["name"] for one in members["logConfiguration"].get("secretOptions", ())]


def _section(title: str, lines: dict[str, str]) -> str:
    return f"[{title}]\n" + "".join(f"    {name} {value}\n" for name, value in lines.items())


def _element(title: str, lines: dict[str, str], inner: str = "") -> str:
    text = "".join(f"    {name} {value}\n" for name, value in lines.items())
    return f"<{title}>\n{text}{inner}</{title.partition(' ')[0]}>\n"
