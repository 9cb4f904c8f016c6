"""From a task definition to what the engine runs: environment, secrets, files, volumes, limits."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from cloudlet.engines.containers.api import Container, Mount, Pod, PodState, Port
from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.services.api import Cloud
from cloudlet.services.ecs import firelens, service_connect, sidecars
from cloudlet.services.ecs.execution import CannotPrepare, ExecutionRole
from cloudlet.services.ecs.records import Task
from cloudlet.services.loglines import Stream

DOOR = "ecs-task"
_MIB = 1024 * 1024


def pod_of(scope: str, task: Task, definition: dict[str, Any], own_addresses: bool, dns: tuple[str, ...]) -> Pod:
    """A task's network and its share of this machine. Raises CannotPrepare where that has less memory."""
    mode = definition.get("networkMode", "bridge")
    containers = definition["containerDefinitions"]
    ports = []
    on_instance = own_addresses and bool(task.instance)
    if on_instance and mode == "host":
        mode = "bridge"  # the instance's network is not this machine's: its ports lead to the task
    if (mode == "bridge" and not on_instance) or (mode == "awsvpc" and not own_addresses):
        for container in containers:
            for port in container["portMappings"]:
                host = port.get("hostPort", 0) if mode == "bridge" else 0
                ports.append(Port(port["containerPort"], host, port["protocol"]))
    hosts = {one["hostname"]: one["ipAddress"] for each in containers for one in each.get("extraHosts", ())}
    if mode == "bridge":
        # Containers of a pod share its loopback: that is where a linked one is found.
        for container in containers:
            for link in container.get("links", ()):
                name, _, alias = link.partition(":")
                hosts[alias or name] = "127.0.0.1"
    hosts |= service_connect.hosts(task.connect)
    servers = [server for each in containers for server in each.get("dnsServers", ())]
    overrides = task.members.get("overrides", {})
    memory = int(overrides.get("memory") or definition.get("memory") or 0)
    if memory > (own := _memory_of_machine()):
        raise CannotPrepare(f"RESOURCE:MEMORY: the task needs {memory} MiB of memory, and this machine has {own} MiB.")
    return Pod(
        name=task.id,
        network={"host": "host", "none": "none"}.get(mode, "own"),  # type: ignore[arg-type]
        address=task.address if own_addresses else "",
        hostname=next((one["hostname"] for one in containers if one.get("hostname")), f"ip-{task.id[:12]}"),
        dns=tuple(servers) or dns,
        search=tuple(domain for each in containers for domain in each.get("dnsSearchDomains", ())),
        hosts=hosts,
        ports=tuple(ports),
        labels={"cloudlet.scope": scope, "com.amazonaws.ecs.task-arn": task_arn(scope, task)},
        cpu=int(overrides.get("cpu") or definition.get("cpu") or 0) / 1024,
        memory=memory * _MIB,
    )


def _memory_of_machine() -> int:
    """In MiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB


async def container_of(
    cloud: Cloud, scope: str, task: Task, definition: dict[str, Any], name: str, pod: PodState, endpoint: str
) -> Container:
    """One container of a task, with its secrets. Raises CannotPrepare."""
    members = next(one for one in definition["containerDefinitions"] if one["name"] == name)
    override = override_of(task, name)
    overrides = task.members.get("overrides", {})
    environment = await _environment(cloud, scope, task, definition, name, pod, endpoint)
    cpu = overrides.get("cpu") or definition.get("cpu")
    memory = override.get("memory") or members.get("memory") or overrides.get("memory") or definition.get("memory")
    linux = members.get("linuxParameters", {})
    return Container(
        name=container_name(task, name),
        pod=pod.name,
        image=next(one.reference for one in task.containers if one.name == name) or members["image"],
        entrypoint=members.get("entryPoint") or None,
        command=override.get("command") or members.get("command") or None,
        environment=environment,
        working_dir=members.get("workingDirectory", ""),
        user=members.get("user", ""),
        cpu=int(cpu) / 1024 if cpu else 0.0,
        cpu_shares=max(2, int(override.get("cpu") or members["cpu"] or cpu or 0)),
        memory=int(memory) * _MIB if memory else 0,
        mounts=tuple(_mounts(cloud, scope, task, definition, members)),
        ulimits={one["name"]: (one["softLimit"], one["hardLimit"]) for one in members.get("ulimits", ())},
        read_only=members.get("readonlyRootFilesystem", False),
        privileged=members.get("privileged", False),
        capabilities=tuple(linux.get("capabilities", {}).get("add", ())),
        dropped=tuple(linux.get("capabilities", {}).get("drop", ())),
        tmpfs={one["containerPath"]: one["size"] * _MIB for one in linux.get("tmpfs", ())},
        shared_memory=linux.get("sharedMemorySize", 0) * _MIB,
        tty=members.get("pseudoTerminal", False),
        init=linux.get("initProcessEnabled", False),
        labels={
            "com.amazonaws.ecs.cluster": task.cluster,
            "com.amazonaws.ecs.container-name": name,
            "com.amazonaws.ecs.task-arn": task_arn(scope, task),
            "com.amazonaws.ecs.task-definition-family": definition["family"],
            "com.amazonaws.ecs.task-definition-version": str(definition["revision"]),
            **members.get("dockerLabels", {}),
        },
    )


async def _environment(
    cloud: Cloud, scope: str, task: Task, definition: dict[str, Any], name: str, pod: PodState, endpoint: str
) -> dict[str, str]:
    """All that a container finds in its environment; what comes later wins. Raises CannotPrepare."""
    members = next(one for one in definition["containerDefinitions"] if one["name"] == name)
    override, role = override_of(task, name), ExecutionRole(cloud, scope, task, definition)
    environment = _given(scope, task, definition, name, endpoint)
    environment |= await sidecars.environment(cloud, scope, definition, pod)
    for file in [*members.get("environmentFiles", ()), *override.get("environmentFiles", ())]:
        environment.update(await _from_file(role, file["value"]))
    environment.update({one["name"]: one.get("value", "") for one in members["environment"] if "name" in one})
    for secret in members.get("secrets", ()):
        environment[secret["name"]] = await _secret(role, secret["valueFrom"])
    if firelens.is_routed(members):
        environment |= {"FLUENT_HOST": "127.0.0.1", "FLUENT_PORT": str(firelens.PORT)}
    if "firelensConfiguration" in members:
        for variable, source in firelens.secrets(definition).items():
            environment[variable] = await _secret(role, source)
    environment.update({one["name"]: one.get("value", "") for one in override.get("environment", ())})
    return environment | traces.resource_environment(scope, name, "aws_ecs", environment)


def container_name(task: Task, name: str) -> str:
    """A container's name in the engine."""
    return f"{task.id}-{name}"


def task_arn(scope: str, task: Task) -> str:
    """A task's ARN."""
    account, region = scope.split("/")
    return f"arn:aws:ecs:{region}:{account}:task/{task.cluster}/{task.id}"


def override_of(task: Task, name: str) -> dict[str, Any]:
    """What RunTask said of a container."""
    every = task.members.get("overrides", {}).get("containerOverrides") or ()
    return next((one for one in every if one["name"] == name), {})


def role_of(task: Task, definition: dict[str, Any]) -> str:
    """The ARN of the task's role, or nothing."""
    return task.members.get("overrides", {}).get("taskRoleArn") or definition.get("taskRoleArn") or ""


def log_stream(scope: str, task: Task, members: dict[str, Any]) -> tuple[Stream, bool] | None:
    """Where a container's lines go, and whether the group is to be made; None when nowhere."""
    configuration = members.get("logConfiguration")
    if configuration is None or configuration["logDriver"] != "awslogs":
        return None
    account, region = scope.split("/")
    options = configuration.get("options", {})
    prefix = options.get("awslogs-stream-prefix")
    stream = f"{prefix}/{members['name']}/{task.id}" if prefix else container_name(task, members["name"])
    with_group = options.get("awslogs-create-group", "false").lower() == "true"
    return (account, options.get("awslogs-region", region), options["awslogs-group"], stream), with_group


def volumes_folder(cloud: Cloud, task: Task) -> Path:
    """Where the volumes are that live as long as the task."""
    return cloud.data_dir / "ecs" / "volumes" / task.id


def firelens_folder(cloud: Cloud, task: Task) -> Path:
    """Where a task's router finds its configuration and makes its socket."""
    return cloud.data_dir / "ecs" / "firelens" / task.id


async def configure_router(cloud: Cloud, scope: str, task: Task, definition: dict[str, Any]) -> None:
    """Write the files of a task's router. Raises CannotPrepare."""
    members = firelens.router(definition)
    assert members is not None
    options, folder = members["firelensConfiguration"].get("options", {}), firelens_folder(cloud, task)
    metadata = {
        "ecs_cluster": task.cluster,
        "ecs_task_arn": task_arn(scope, task),
        "ecs_task_definition": f"{definition['family']}:{definition['revision']}",
    }
    files = {"fluent.conf": firelens.configuration(definition, task.id, metadata).encode()}
    if options.get("config-file-type") == "s3":
        files["external.conf"] = await _object(
            ExecutionRole(cloud, scope, task, definition), options["config-file-value"]
        )

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)

    await asyncio.to_thread(write)


def make_folders(container: Container, cloud: Cloud) -> None:
    """Make the folders of ours that a container mounts. Any user of the container may write to them."""
    ours = cloud.data_dir / "ecs"
    for mount in container.mounts:
        folder = Path(mount.source)
        if folder.is_relative_to(ours) and not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o777)


def _given(scope: str, task: Task, definition: dict[str, Any], name: str, endpoint: str) -> dict[str, str]:
    """What every task finds in its environment."""
    region = scope.split("/")[1]
    id = next(one.id for one in task.containers if one.name == name)
    door = f"{endpoint}/_cloudlet/{DOOR}/{task.key}"
    given = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_ECS_{task.members.get('launchType', 'FARGATE')}",
        "ECS_CONTAINER_METADATA_URI": f"{door}/v3/{id}",
        "ECS_CONTAINER_METADATA_URI_V4": f"{door}/v4/{id}",
        "ECS_AGENT_URI": f"{door}/api/{id}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    if role_of(task, definition):
        given["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{door}/credentials"
    return given


def _mounts(cloud: Cloud, scope: str, task: Task, definition: dict[str, Any], members: dict[str, Any]) -> list[Mount]:
    volumes = {one["name"]: one for one in definition["volumes"] if "name" in one}
    made = []
    for point in _points(definition, members, ()):
        volume = volumes[point["sourceVolume"]]
        source = _source(cloud, scope, task, volume)
        made.append(Mount(source, point["containerPath"], point.get("readOnly", False)))
    if (routes := members.get("firelensConfiguration")) is not None:
        made += firelens.mounts(routes["type"], firelens_folder(cloud, task), routes.get("options", {}))
    return made


def _points(definition: dict[str, Any], members: dict[str, Any], seen: tuple[str, ...]) -> list[dict[str, Any]]:
    """What a container mounts, also from others of its task; its own go before theirs at the same path."""
    points = {one["containerPath"]: one for one in members["mountPoints"]}
    for given in members["volumesFrom"]:
        name = given["sourceContainer"]
        if name in seen:
            continue
        other = next(one for one in definition["containerDefinitions"] if one["name"] == name)
        for point in _points(definition, other, (*seen, members["name"])):
            only_read = given.get("readOnly", False) or point.get("readOnly", False)
            points.setdefault(point["containerPath"], {**point, "readOnly": only_read})
    return list(points.values())


def _source(cloud: Cloud, scope: str, task: Task, volume: dict[str, Any]) -> str:
    """The folder on this machine that is a volume."""
    if path := volume.get("host", {}).get("sourcePath"):
        return str(path)
    ours = cloud.data_dir / "ecs"
    if (share := volume.get("efsVolumeConfiguration")) is not None:
        point = share.get("authorizationConfig", {}).get("accessPointId", "")
        root = share.get("rootDirectory", "/").strip("/")
        return str(ours / "efs" / scope / share["fileSystemId"] / point / root)
    if volume.get("dockerVolumeConfiguration", {}).get("scope") == "shared":
        return str(ours / "shared" / scope / volume["name"])
    return str(volumes_folder(cloud, task) / volume["name"])


async def _from_file(role: ExecutionRole, arn: str) -> dict[str, str]:
    """The variables of an environment file: NAME=value lines and comments."""
    data = await _object(role, arn)
    lines = (line.strip() for line in data.decode(errors="replace").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#") and "=" in line)
    return {name.strip(): value for name, _, value in pairs}


async def _object(role: ExecutionRole, arn: str) -> bytes:
    """A file in S3 that a task needs. Raises CannotPrepare with AWS's words."""
    bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
    try:
        found = await role.call("s3", "GetObject", {"Bucket": bucket, "Key": key})
        body = found["Body"]
        return body if isinstance(body, bytes) else b"".join([part async for part in body])
    except AwsError as error:
        raise CannotPrepare(
            "ResourceInitializationError: failed to download env files: file download command: non empty error "
            f"stream: {error.code}: {error.message}"
        ) from None


async def _secret(role: ExecutionRole, source: str) -> str:
    """The value of a secret or of a parameter. Raises CannotPrepare with AWS's words."""
    start = (
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
    )
    parts = source.split(":")
    if len(parts) > 6 and parts[2] == "secretsmanager":
        key, stage, version = [*parts[7:], "", "", ""][:3]
        ask = {"SecretId": ":".join(parts[:7])}
        ask |= {"VersionStage": stage} if stage else {}
        ask |= {"VersionId": version} if version else {}
        try:
            found = await role.call("secretsmanager", "GetSecretValue", ask, region=parts[3])
        except AwsError as error:
            raise CannotPrepare(
                f"{start}unable to retrieve secret from asm: service call has been retried 1 time(s): "
                f"failed to fetch secret {source} from secrets manager: {error.code}: {error.message}"
            ) from None
        text: str = found.get("SecretString") or found.get("SecretBinary", b"").decode(errors="replace")
        if not key:
            return text
        try:
            value = json.loads(text)[key]
        except (ValueError, KeyError, TypeError):
            raise CannotPrepare(
                f"{start}unable to retrieve secret from asm: service call has been retried 1 time(s): "
                f"retrieved secret from Secrets Manager did not contain json key {key}"
            ) from None
        return value if isinstance(value, str) else json.dumps(value)
    name, region = source, ""
    if source.startswith("arn:"):
        region, name = parts[3], parts[5].removeprefix("parameter")
        if name.count("/") == 1:
            name = name.removeprefix("/")
    try:
        found = await role.call("ssm", "GetParameter", {"Name": name, "WithDecryption": True}, region=region)
    except AwsError as error:
        why = f"invalid parameters: {name}" if error.code == "ParameterNotFound" else f"{error.code}: {error.message}"
        raise CannotPrepare(
            f"{start}unable to retrieve secrets from ssm: service call has been retried 1 time(s): {why}"
        ) from None
    return found["Parameter"]["Value"]  # type: ignore[no-any-return]
