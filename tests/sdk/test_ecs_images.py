"""Which image a task runs: its tag is asked of the registry, once for each deployment, with the rights for it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import platform
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pulled
import pytest
from botocore.exceptions import ClientError
from callers import Strict
from pulled import cloud_with_engine
from test_ecs import ROLE, network, register, run, stopped

from cloudlet.engines.containers import platforms
from cloudlet.testing import LocalCloud, eventually

_IMAGE = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image(root: str, word: str, architecture: str = _HERE) -> tuple[bytes, dict[str, bytes]]:
    """An image which prints a word: its manifest, and its blobs by their digests."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(root, ".")
        entry = tarfile.TarInfo("word")
        entry.size = len(word)
        archive.addfile(entry, io.BytesIO(word.encode()))
    layer = file.getvalue()
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "cat /word; echo; exec sleep 600"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    ).encode()

    def descriptor(data: bytes, kind: str) -> dict[str, Any]:
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest_of(data), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": _IMAGE,
        "config": descriptor(config, "config.v1+json"),
        "layers": [descriptor(layer, "layer.v1.tar")],
    }
    return json.dumps(manifest).encode(), {digest_of(one): one for one in (layer, config)}


def push(cloud: LocalCloud, uri: str, root: str, word: str) -> str:
    """Push an image to our registry; its digest."""
    token = cloud.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    host, _, name = uri.partition("/")
    name, _, tag = name.rpartition(":")
    manifest, blobs = image(root, word)
    registry = http.client.HTTPConnection(urlsplit(cloud.endpoint).netloc)

    def ask(method: str, path: str, body: bytes = b"", kind: str = "application/octet-stream") -> Any:
        headers = {"host": host, "authorization": f"Basic {token}", "content-type": kind}
        registry.request(method, path, body, headers)
        answer = registry.getresponse()
        answer.read()
        assert answer.status < 300, (answer.status, path)
        return answer.headers

    for digest, data in blobs.items():
        place = ask("POST", f"/v2/{name}/blobs/uploads/")["location"]
        ask("PUT", f"{place}?digest={digest}", data)
    ask("PUT", f"/v2/{name}/manifests/{tag}", manifest, _IMAGE)
    return digest_of(manifest)


def words(cloud: LocalCloud) -> list[str]:
    events = cloud.client("logs").filter_log_events(logGroupName="/words")["events"]
    return [one["message"] for one in sorted(events, key=lambda one: one["timestamp"])]


def logged(**more: Any) -> dict[str, Any]:
    """A container that says its word in the log group /words."""
    options = {"awslogs-group": "/words", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "x"}
    return {"logConfiguration": {"logDriver": "awslogs", "options": options}, **more}


def test_a_tag_that_was_pushed_again_is_pulled_by_the_next_deployment(engine_cloud: LocalCloud, busybox: str) -> None:
    cloud, ecs = engine_cloud, engine_cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    cloud.client("logs").create_log_group(logGroupName="/words")
    uri = cloud.client("ecr").create_repository(repositoryName="again")["repository"]["repositoryUri"] + ":latest"
    first = push(cloud, uri, busybox, "first")
    definition = register(ecs, uri, container=logged())
    ecs.create_service(
        cluster="c",
        serviceName="web",
        taskDefinition=definition,
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=network(cloud),
    )

    def tasks() -> list[dict[str, Any]]:
        arns = ecs.list_tasks(cluster="c", serviceName="web")["taskArns"]
        found = ecs.describe_tasks(cluster="c", tasks=arns)["tasks"] if arns else []
        return [one for one in found if one["lastStatus"] == "RUNNING" and one["desiredStatus"] == "RUNNING"]

    (one,) = eventually(tasks)
    assert one["containers"][0]["image"] == uri
    assert one["containers"][0]["imageDigest"] == first
    eventually(lambda: words(cloud) == ["first"])
    second = push(cloud, uri, busybox, "second")
    assert second != first

    # Within its deployment a task that is replaced runs what the first one ran.
    ecs.stop_task(cluster="c", task=one["taskArn"])
    (other,) = eventually(lambda: [now for now in tasks() if now["taskArn"] != one["taskArn"]])
    assert other["containers"][0]["imageDigest"] == first
    eventually(lambda: words(cloud) == ["first", "first"])
    # A task of no service runs what the tag means now, beside it.
    alone = run(cloud, definition)
    eventually(lambda: words(cloud)[2:] == ["second"])
    assert ecs.describe_tasks(cluster="c", tasks=[alone])["tasks"][0]["containers"][0]["imageDigest"] == second

    ecs.update_service(cluster="c", service="web", forceNewDeployment=True)
    eventually(lambda: [now["containers"][0].get("imageDigest") for now in tasks()] == [second])
    eventually(lambda: words(cloud)[3:] == ["second"])
    (service,) = ecs.describe_services(cluster="c", services=["web"])["services"]
    latest = ecs.list_service_deployments(cluster="c", service="web")["serviceDeployments"][0]
    (revision,) = ecs.describe_service_revisions(serviceRevisionArns=[latest["targetServiceRevisionArn"]])[
        "serviceRevisions"
    ]
    assert revision["containerImages"] == [{"containerName": "app", "image": uri, "imageDigest": second}]
    assert service["runningCount"] == 1
    ecs.stop_task(cluster="c", task=alone)
    roots = cloud.data_dir / "containers/images/roots"
    if roots.exists():
        # Nobody runs the first one any more.
        eventually(lambda: os.listdir(roots) == [second.replace(":", "-")])


def test_a_tag_is_asked_at_each_start_where_versions_need_not_agree(engine_cloud: LocalCloud, busybox: str) -> None:
    cloud, ecs = engine_cloud, engine_cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    cloud.client("logs").create_log_group(logGroupName="/words")
    uri = cloud.client("ecr").create_repository(repositoryName="again")["repository"]["repositoryUri"] + ":latest"
    push(cloud, uri, busybox, "first")
    ecs.create_service(
        cluster="c",
        serviceName="web",
        taskDefinition=register(ecs, uri, container=logged(versionConsistency="disabled")),
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=network(cloud),
    )
    eventually(lambda: words(cloud) == ["first"])
    push(cloud, uri, busybox, "second")
    (arn,) = ecs.list_tasks(cluster="c", serviceName="web")["taskArns"]
    ecs.stop_task(cluster="c", task=arn)
    eventually(lambda: words(cloud) == ["first", "second"])


@pytest.fixture(params=["podman", "processes"])
def strict(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """A cloud that enforces policies, on each engine."""
    if request.param == "podman" and (shutil.which("podman") is None or os.geteuid() != 0):
        pytest.skip("needs podman and root")
    if request.param == "processes" and shutil.which("bwrap") is None:
        pytest.skip("needs bwrap")
    monkeypatch.setenv("CLOUDLET_ENGINE", request.param)
    with cloud_with_engine(Strict()) as running:
        yield running


def test_the_execution_role_pulls(strict: LocalCloud, busybox: str) -> None:
    ecs, iam = strict.client("ecs"), strict.client("iam")
    ecs.create_cluster(clusterName="c")
    uri = strict.client("ecr").create_repository(repositoryName="again")["repository"]["repositoryUri"]
    digest = push(strict, f"{uri}:1", busybox, "word")

    def end(tag: str = "1") -> str:
        definition = register(ecs, f"{uri}:{tag}", "true")
        return str(stopped(ecs, run(strict, definition))["stoppedReason"])

    assert end().startswith(f"ECS was unable to assume the role '{ROLE}' that was provided for this task.")
    trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName="task", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    denied = end()
    assert denied.startswith(
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
        "unable to retrieve ecr registry auth: service call has been retried 1 time(s): AccessDeniedException: User: "
        "arn:aws:sts::000000000000:assumed-role/task/"
    )
    assert "is not authorized to perform: ecr:GetAuthorizationToken" in denied

    def allow(*actions: str) -> None:
        policy = {"Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        iam.put_role_policy(RoleName="task", PolicyName="p", PolicyDocument=json.dumps(policy))

    allow("ecr:GetAuthorizationToken")
    assert end().endswith("failed with status code [manifests 1]: 403 Forbidden")
    allow("ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    assert end("2") == (
        "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
        f"failed to resolve ref {uri}:2: {uri}:2: not found"
    )
    definition = register(ecs, f"{uri}:1")
    arn = run(strict, definition)
    eventually(lambda: ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["lastStatus"] == "RUNNING")
    assert ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["containers"][0]["imageDigest"] == digest
    assert digest in json.dumps(strict.client("ecr").describe_images(repositoryName="again"), default=str)


class Private(ThreadingHTTPServer):
    """Somebody else's registry, which wants a name and a password, and has images of some architectures."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.login = "Basic " + base64.b64encode(b"anna:tiger").decode()

    def put(self, tag: str, manifest: bytes, blobs: dict[str, bytes], kind: str = _IMAGE) -> None:
        self.manifests[tag] = self.manifests[digest_of(manifest)] = (kind, manifest)
        self.blobs |= blobs


class _Answers(BaseHTTPRequestHandler):
    server: Private
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("authorization") != self.server.login:
            self._answer(401, b"", {"www-authenticate": 'Basic realm="private"'})
            return
        kind, _, wanted = self.path.removeprefix("/v2/").rpartition("/")
        if not wanted:
            self._answer(200, b"{}", {})
        elif kind.endswith("manifests") and wanted in self.server.manifests:
            media, data = self.server.manifests[wanted]
            self._answer(200, data, {"content-type": media, "docker-content-digest": digest_of(data)})
        elif wanted in self.server.blobs:
            self._answer(200, self.server.blobs[wanted], {"content-type": "application/octet-stream"})
        else:
            self._answer(404, b"{}", {})

    do_HEAD = do_GET

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def private() -> Iterator[Private]:
    with Private() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        pulled.forget(f"127.0.0.1:{server.server_port}")


def test_a_private_registry_gets_the_name_and_password_of_a_secret(
    engine_cloud: LocalCloud, busybox: str, private: Private, tmp_path: Path
) -> None:
    cloud, ecs, secrets = engine_cloud, engine_cloud.client("ecs"), engine_cloud.client("secretsmanager")
    ecs.create_cluster(clusterName="c")
    private.put("1", *image(busybox, "mine"))
    uri = f"127.0.0.1:{private.server_port}/team/app:1"

    def of(secret: str) -> dict[str, Any]:
        return {"repositoryCredentials": {"credentialsParameter": secret}} if secret else {}

    def end(secret: str = "") -> str:
        return str(stopped(ecs, run(cloud, register(ecs, uri, "true", container=of(secret))))["stoppedReason"])

    assert end().startswith(
        f"CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {uri}: "
    )
    assert "unable to get registry auth from asm" in end(
        "arn:aws:secretsmanager:us-east-1:000000000000:secret:no-aaaaaa"
    )
    good = secrets.create_secret(Name="good", SecretString='{"username": "anna", "password": "tiger"}')["ARN"]
    arn = run(cloud, register(ecs, uri, container=of(good)))
    eventually(lambda: ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["lastStatus"] == "RUNNING")
    found = ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["containers"][0]["imageDigest"]
    assert found == digest_of(private.manifests["1"][1])
    # An image that is here is used where its registry does not answer.
    private.manifests.clear()
    private.login = ""
    arn = run(cloud, register(ecs, uri, container=of(good)))
    eventually(lambda: ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["lastStatus"] == "RUNNING")


def test_images_of_several_architectures(engine_cloud: LocalCloud, busybox: str, private: Private) -> None:
    other = "arm64" if _HERE == "amd64" else "amd64"
    if platforms.runs(other):
        pytest.skip(f"this machine runs {other} too")
    cloud, ecs, secrets = engine_cloud, engine_cloud.client("ecs"), engine_cloud.client("secretsmanager")
    ecs.create_cluster(clusterName="c")
    cloud.client("logs").create_log_group(logGroupName="/words")
    made = {one: image(busybox, one, one) for one in (other, _HERE)}
    for tag, architectures in (("both", [other, _HERE]), ("other", [other])):
        listed = []
        for one in architectures:
            manifest, blobs = made[one]
            private.put(one, manifest, blobs)
            place = {"os": "linux", "architecture": one}
            listed.append(
                {"mediaType": _IMAGE, "digest": digest_of(manifest), "size": len(manifest), "platform": place}
            )
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": listed}
        private.put(tag, json.dumps(index).encode(), {}, _INDEX)
    secret = secrets.create_secret(Name="s", SecretString='{"username": "anna", "password": "tiger"}')["ARN"]
    container = logged(repositoryCredentials={"credentialsParameter": secret})
    wanted = {"cpuArchitecture": "ARM64" if other == "arm64" else "X86_64", "operatingSystemFamily": "LINUX"}
    uri = f"127.0.0.1:{private.server_port}/team/app"

    both = register(ecs, f"{uri}:both", container=container, runtimePlatform=wanted)
    ecs.create_service(
        cluster="c",
        serviceName="web",
        taskDefinition=both,
        desiredCount=2,
        launchType="FARGATE",
        networkConfiguration=network(cloud),
    )
    eventually(lambda: words(cloud) == [_HERE, _HERE])
    events = ecs.describe_services(cluster="c", services=["web"])["services"][0]["events"]
    assert len([one for one in events if f"runs its {wanted['cpuArchitecture']} tasks on" in one["message"]]) == 1
    reason = stopped(ecs, run(cloud, register(ecs, f"{uri}:other", container=container)))["stoppedReason"]
    assert reason == (
        "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
        f"image Manifest does not contain descriptor matching platform 'linux/{_HERE}'"
    )
    with pytest.raises(ClientError, match="operatingSystemFamily WINDOWS_SERVER_2022_CORE"):
        register(ecs, uri, runtimePlatform={"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"})
    ecs.delete_service(cluster="c", service="web", force=True)


def test_what_answers_need_not_be_a_registry(engine_cloud: LocalCloud) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    ecs = engine_cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        arn = run(engine_cloud, register(ecs, f"127.0.0.1:{server.server_port}/a:1", "true"))
        assert stopped(ecs, arn)["stoppedReason"].startswith("CannotPullContainerError: pull image manifest")
        server.shutdown()
