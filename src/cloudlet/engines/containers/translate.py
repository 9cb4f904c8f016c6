"""Pods and containers in the words of the Docker API, and its answers in ours. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cloudlet.engines.containers.api import Abilities, Container, ContainerState, Mount, Pod, PodState, Port
from cloudlet.engines.containers.archives import PAUSE

# Every container and network of ours carries them; those of other clouds and other programs are left alone.
CLOUD = "cloudlet.cloud"
KIND = "cloudlet.kind"  # "pod" for what holds a pod's network, else "container"
NAME = "cloudlet.name"
POD = "cloudlet.pod"
NETWORK = "cloudlet.network"
LIMITED = "cloudlet.memory"
_OWN = "cloudlet."

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
_KILLED = 137


def pod_body(pod: Pod, cloud: str, network: str) -> dict[str, Any]:
    """The container that holds a pod's network."""
    own = pod.network == "own"
    ports = [f"{port.container}/{port.protocol}" for port in pod.ports]
    bindings: dict[str, list[dict[str, str]]] = {}
    for key, port in zip(ports, pod.ports, strict=True):
        bindings.setdefault(key, []).append({"HostIp": port.address, "HostPort": str(port.host) if port.host else ""})
    body: dict[str, Any] = {
        "Image": PAUSE,
        "Labels": {**pod.labels, CLOUD: cloud, KIND: "pod", NAME: pod.name, NETWORK: pod.network},
        "StopSignal": "SIGKILL",
        "HostConfig": {"NetworkMode": network if own else pod.network, "LogConfig": {"Type": "none"}},
    }
    if own:
        body |= {"ExposedPorts": {key: {} for key in ports}}
        body["HostConfig"] |= {
            "PortBindings": bindings,
            "Dns": list(pod.dns),
            "DnsSearch": list(pod.search),
            "ExtraHosts": [f"{name}:{address}" for name, address in pod.hosts.items()],
        }
        if pod.hostname:
            body["Hostname"] = pod.hostname
        endpoint = {"IPAMConfig": {"IPv4Address": pod.address}} if pod.address else {}
        body["NetworkingConfig"] = {"EndpointsConfig": {network: endpoint}}
    return body


def container_body(
    container: Container,
    image: str,
    mounts: Sequence[Mount],
    cloud: str,
    pod_id: str,
    hostname: str,
    can: Abilities,
    highest: Mapping[str, int],
) -> dict[str, Any]:
    """A container in the pod that ``pod_id`` holds; ``highest`` are this machine's own limits, where it has any."""
    limits = {**{name: (most, most) for name, most in highest.items()}, **container.ulimits}
    host: dict[str, Any] = {
        "NetworkMode": f"container:{pod_id}",
        "Binds": [f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}" for mount in mounts],
        "ReadonlyRootfs": container.read_only,
        "Privileged": container.privileged,
        "CapAdd": list(container.capabilities),
        "CapDrop": list(container.dropped),
        "Tmpfs": {path: f"size={size}" for path, size in container.tmpfs.items()},
        "Init": container.init,
        "LogConfig": {"Type": "json-file"},
        "Ulimits": [
            {"Name": name, "Soft": min(soft, highest.get(name, soft)), "Hard": min(hard, highest.get(name, hard))}
            for name, (soft, hard) in limits.items()
        ],
    }
    labels = {**container.labels, CLOUD: cloud, KIND: "container", NAME: container.name, POD: container.pod}
    if container.shared_memory:
        host["ShmSize"] = container.shared_memory
    if container.cpu_shares:
        host["CpuShares"] = container.cpu_shares
    if container.cpu and can.limits_cpu:
        host["NanoCpus"] = int(container.cpu * 1e9)
    if container.memory and can.limits_memory:
        host |= {"Memory": container.memory, "MemorySwap": container.memory}
        labels[LIMITED] = str(container.memory)
    body: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in container.environment.items()],
        "Tty": container.tty,
        "OpenStdin": container.tty,
        "Labels": labels,
        "HostConfig": host,
    }
    # An empty list is not the same as none: it would take the image's away.
    for key, value in (("Entrypoint", container.entrypoint), ("Cmd", container.command)):
        if value is not None:
            body[key] = list(value)
    for key, text in (("WorkingDir", container.working_dir), ("User", container.user), ("Hostname", hostname)):
        if text:
            body[key] = text
    if container.stop_signal:
        body["StopSignal"] = container.stop_signal
    return body


def pod_state(document: dict[str, Any]) -> PodState:
    """A pod, of what inspecting its holder says."""
    labels, settings = document["Config"]["Labels"], document["NetworkSettings"]
    kind = labels[NETWORK]
    address = settings.get("IPAddress") or next(
        (network["IPAddress"] for network in (settings.get("Networks") or {}).values() if network.get("IPAddress")), ""
    )
    ports = [
        Port(int(key.partition("/")[0]), int(bound["HostPort"]), key.partition("/")[2], bound["HostIp"] or "0.0.0.0")
        for key, bindings in (settings.get("Ports") or {}).items()
        for bound in bindings or ()
    ]
    return PodState(
        labels[NAME],
        "127.0.0.1" if kind == "host" else address,
        "" if kind == "host" else namespace_of(document),
        ports,
        _foreign(labels),
    )


def namespace_of(document: dict[str, Any]) -> str:
    """The path of a container's network namespace, where this machine can see it."""
    key, pid = document["NetworkSettings"].get("SandboxKey", ""), document["State"]["Pid"]
    if key and os.access(key, os.R_OK):
        return str(key)
    return f"/proc/{pid}/ns/net" if pid and os.path.exists(f"/proc/{pid}") else ""


def container_state(document: dict[str, Any], digest: str, ended_by_us: bool) -> ContainerState:
    """A container, of what inspecting it says."""
    state, labels = document["State"], document["Config"]["Labels"]
    ended = not state["Running"]
    reason = state.get("Error", "") if ended else ""
    # Engines miss it when a container dies within milliseconds: killed at its limit, and not by us, is the same.
    killed = ended and state["ExitCode"] == _KILLED and LIMITED in labels and not ended_by_us
    if state.get("OOMKilled") or killed:
        reason = OUT_OF_MEMORY
    return ContainerState(
        labels[NAME],
        labels[POD],
        document["Config"]["Image"],
        state["Pid"],
        moment(state["StartedAt"]),
        state["ExitCode"] if ended else None,
        reason,
        digest,
        _foreign(labels),
    )


def moment(text: str) -> float:
    """Epoch seconds of a time as engines write it (RFC 3339 with up to nine decimals)."""
    whole, _, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    zone = rest[digits:] if rest else ""
    return datetime.fromisoformat((whole + zone).replace("Z", "+00:00")).timestamp() + float(f"0.{rest[:digits] or 0}")


def sockets(environment: dict[str, str], kind: str) -> list[Path]:
    """Where an engine's API may listen: ``docker``, ``podman``, or either when ``kind`` is empty."""
    found = []
    named = environment.get("DOCKER_HOST", "")
    if named.startswith("unix://"):
        found.append(Path(named.removeprefix("unix://")))
    runtime = environment.get("XDG_RUNTIME_DIR")  # of those that run without root
    if kind != "podman":
        found += [Path("/var/run/docker.sock"), *([Path(runtime) / "docker.sock"] if runtime else [])]
    if kind != "docker":
        found += [Path("/run/podman/podman.sock"), *([Path(runtime) / "podman" / "podman.sock"] if runtime else [])]
    return found


def _foreign(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if not name.startswith(_OWN)}
