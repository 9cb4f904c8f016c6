"""Functions that are container images, from a folder and from our own registry, on each engine of this machine."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

ROLE = "arn:aws:iam::000000000000:role/anyone"
RUNTIME = """#!/bin/sh
# MARK
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime
echo "starts with $MODE as $1 in $PWD"
while wget -q -S -O /tmp/event $api/invocation/next 2>/tmp/headers; do
    id=$(grep -i aws-request-id /tmp/headers | sed 's/.*: //' | tr -d '\\r')
    echo "works on $id"
    case $(cat /tmp/event) in
        *slow*) sleep 30;;
        *crash*) exit 3;;
        *write*) echo x >/here 2>/dev/null && echo wrote;;
    esac
    n=$(cat /tmp/n 2>/dev/null || echo 0)
    said="{\\"n\\": $n, \\"arg\\": \\"$1\\", \\"event\\": $(cat /tmp/event)}"
    wget -q -O /dev/null --post-data "$said" $api/invocation/$id/response
    echo $(($n + 1)) >/tmp/n
done
"""


@pytest.fixture
def image(busybox: str, tmp_path: Path) -> str:
    """A root file system with a runtime of a few lines of shell."""
    folder = tmp_path / "image"
    shutil.copytree(busybox, folder, symlinks=True)
    for name in ("sed", "tr"):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "bootstrap").write_text(RUNTIME.replace("MARK", str(folder)))
    (folder / "bootstrap").chmod(0o755)
    (folder / "work").mkdir()
    return str(folder)


def invoke(functions: Any, name: str, event: Any, **more: Any) -> tuple[dict[str, Any], Any]:
    answer = functions.invoke(FunctionName=name, Payload=json.dumps(event).encode(), **more)
    return answer, json.loads(answer["Payload"].read())


def make(functions: Any, name: str, uri: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = functions.create_function(
        FunctionName=name, PackageType="Image", Code={"ImageUri": uri}, Role=ROLE, **{"Timeout": 20, **more}
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})
    return made


def test_a_folder_is_an_image(engine_cloud: LocalCloud, image: str) -> None:
    functions = engine_cloud.client("lambda")
    settings = {"EntryPoint": ["/bootstrap"], "Command": ["one"], "WorkingDirectory": "/work"}
    made = make(functions, "f", image, ImageConfig=settings, Environment={"Variables": {"MODE": "test"}})
    assert made["PackageType"] == "Image"
    assert made["State"] == "Pending"
    assert made["ImageConfigResponse"] == {"ImageConfig": settings}
    assert "Runtime" not in made
    answer, told = invoke(functions, "f", {"a": 1}, LogType="Tail")
    assert (told["n"], told["arg"], told["event"]) == (0, "one", {"a": 1})
    log = base64.b64decode(answer["LogResult"]).decode()
    assert log.startswith("START RequestId: ")
    assert "works on " in log
    assert "REPORT RequestId: " in log
    # Warm, and its root file system cannot be written to.
    assert invoke(functions, "f", "write")[1]["n"] == 1
    assert invoke(functions, "f", 3)[1]["n"] == 2
    answer, told = invoke(functions, "f", "crash")
    assert answer["FunctionError"] == "Unhandled"
    assert told["errorType"] == "Runtime.ExitError"
    assert told["errorMessage"].endswith("Runtime exited with error: exit status 3")
    functions.update_function_configuration(
        FunctionName="f", Timeout=1, ImageConfig={**settings, "Command": ["two"]}, Environment={}
    )
    answer, told = invoke(functions, "f", "slow")
    assert told["errorType"] == "Sandbox.Timedout"
    assert invoke(functions, "f", 1)[1]["arg"] == "two"
    functions.publish_version(FunctionName="f")
    assert invoke(functions, "f:1", 1)[1]["arg"] == "two"
    logs = engine_cloud.client("logs")

    def lines() -> list[str]:
        return [event["message"].strip() for event in logs.filter_log_events(logGroupName="/aws/lambda/f")["events"]]

    eventually(
        lambda: "starts with test as one in /work" in (told := lines()) and not any("wrote" in one for one in told)
    )
    found = functions.get_function(FunctionName="f")["Code"]
    assert found["RepositoryType"] == "ECR"
    assert found["ImageUri"] == image
    # As all code of this machine it is run as it is now.
    (Path(image) / "bootstrap").write_text(RUNTIME.replace("$1", "changed"))
    eventually(lambda: invoke(functions, "f", 1)[1].get("arg") == "changed")


def test_a_killed_cloud_leaves_no_sandbox(engine_cloud: LocalCloud, image: str) -> None:
    functions = engine_cloud.client("lambda")
    settings = {"EntryPoint": ["/bootstrap"], "Command": ["one"]}
    make(functions, "f", image, ImageConfig=settings)
    assert invoke(functions, "f", 1)[1]["n"] == 0
    assert invoke(functions, "f", 1)[1]["n"] == 1
    assert len(bootstraps(image)) == 1
    engine_cloud.kill()
    engine_cloud.start()
    functions = engine_cloud.client("lambda")
    assert invoke(functions, "f", 1)[1]["n"] == 0
    assert len(bootstraps(image)) == 1
    functions.delete_function(FunctionName="f")
    eventually(lambda: not bootstraps(image))


def bootstraps(image: str) -> list[int]:
    """The processes that run the runtime of this image, wherever they are."""
    mark = Path(image, "bootstrap").read_bytes()
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[1:3] == ["/bootstrap", "one"]:
                root = Path(f"/proc/{process.pid}/root/bootstrap")
                found += [process.pid] if root.read_bytes() == mark else []
        except (psutil.Error, OSError):
            continue
    return found


def test_what_cannot_be_is_refused(cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = cloud.client("lambda")

    def refused(**given: Any) -> str:
        call = {"FunctionName": "f", "PackageType": "Image", "Role": ROLE, "Code": {"ImageUri": str(tmp_path)}, **given}
        with pytest.raises(ClientError) as caught:
            functions.create_function(**call)
        assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
        return str(caught.value.response["Error"]["Message"])

    intended = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
    assert refused(Handler="a.b") == intended
    assert refused(Runtime="python3.12") == intended
    for uri in (
        "/no/such/folder",
        "000000000000.dkr.ecr.us-east-1.amazonaws.com/none:latest",
        "000000000000.dkr.ecr.us-east-1.localhost:4566/none@sha256:" + 64 * "0",
    ):
        assert refused(Code={"ImageUri": uri}) == f"Source image {uri} does not exist. Provide a valid source image."
    assert "provide" in refused(Code={"ZipFile": b"x"})
    with pytest.raises(ClientError, match="when the intended function PackageType is Zip"):
        functions.create_function(
            FunctionName="f", Role=ROLE, Code={"ImageUri": "a"}, Runtime="python3.12", Handler="a"
        )
    # An application without a command of its own: it is made, and says why it does not start.
    make(functions, "silent", str(tmp_path))
    answer, told = invoke(functions, "silent", {})
    assert answer["FunctionError"] == "Unhandled"
    assert "without a command of its own" in told["errorMessage"]
    with pytest.raises(ClientError, match="Please provide ImageUri when updating a function with packageType Image"):
        functions.update_function_code(FunctionName="silent", ZipFile=b"x")


def test_aws_own_runtime_client_in_an_image_of_our_registry(
    engine_cloud: LocalCloud, python_image: Path, tmp_path: Path
) -> None:
    uri = engine_cloud.client("ecr").create_repository(repositoryName="fn")["repository"]["repositoryUri"]
    context = shutil.copytree(python_image, tmp_path / "context", symlinks=True)
    push(engine_cloud, context, f"{uri}:1")
    functions = engine_cloud.client("lambda")
    made = make(functions, "f", f"{uri}:1", MemorySize=256)
    (image,) = engine_cloud.client("ecr").describe_images(repositoryName="fn")["imageDetails"]
    assert f"sha256:{made['CodeSha256']}" == image["imageDigest"]
    found = functions.get_function(FunctionName="f")["Code"]
    assert found["ImageUri"] == f"{uri}:1"
    assert found["ResolvedImageUri"] == f"{uri}@{image['imageDigest']}"
    _, told = invoke(functions, "f", {"x": 1})
    assert told == {"version": "v1", "event": {"x": 1}, "function": "f", "memory": "256", "tables": []}
    answer, told = invoke(functions, "f", {"fail": True})
    assert answer["FunctionError"] == "Unhandled"
    assert told["errorType"] == "LookupError"
    # What the tag means later is nothing to the function, until it is told.
    (context / "task/app.py").write_text(HANDLER.replace("v1", "v2"))
    push(engine_cloud, context, f"{uri}:1")
    assert invoke(functions, "f", {})[1]["version"] == "v1"
    changed = functions.update_function_code(FunctionName="f", ImageUri=f"{uri}:1")
    assert changed["State"] == "Active"
    assert changed["CodeSha256"] != made["CodeSha256"]
    assert invoke(functions, "f", {})[1]["version"] == "v2"
    functions.delete_function(FunctionName="f")
    if shutil.which("podman"):
        for digest in (made["CodeSha256"], changed["CodeSha256"]):
            name = f"{engine_cloud.endpoint.removeprefix('http://')}/000000000000.dkr.ecr.us-east-1/fn"
            subprocess.run(["podman", "rmi", "-f", f"{name}@sha256:{digest}"], capture_output=True)


TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Built:
    Type: AWS::Serverless::Function
    Properties: {FunctionName: built, PackageType: Image, Timeout: 10, Environment: {Variables: {MODE: sam}}}
    Metadata: {Dockerfile: Dockerfile, DockerContext: ./image, DockerBuildArgs: {WORD: first}}
  Folder:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: folder
      PackageType: Image
      ImageUri: ./image
      ImageConfig: {EntryPoint: [/bootstrap], Command: [two]}
      Timeout: 10
"""


def test_templates_build_and_name_images(engine_cloud: LocalCloud, image: str, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    (tmp_path / "image/Dockerfile").write_text(
        'FROM scratch\nARG WORD\nCOPY . /\nENTRYPOINT ["/bootstrap"]\nCMD ["one"]\n'
    )
    template.write_text(TEMPLATE)
    functions = engine_cloud.client("lambda")
    if os.environ["CLOUDLET_ENGINE"] == "processes":
        said = deploy(engine_cloud, template)[-1]
        assert "there is neither Docker nor Podman here" in said["message"]
        return
    if shutil.which("buildah") is None:
        pytest.skip("needs buildah")
    assert deploy(engine_cloud, template)[-1].get("status") == "CREATE_COMPLETE"
    assert invoke(functions, "built", 1)[1]["arg"] == "one"
    assert invoke(functions, "folder", 1)[1]["arg"] == "two"
    before = functions.get_function(FunctionName="built")
    template.write_text(TEMPLATE.replace("first", "second").replace("[two]", "[three]"))
    assert deploy(engine_cloud, template)[-1].get("status") == "UPDATE_COMPLETE"
    after = functions.get_function(FunctionName="built")
    assert after["Code"]["ImageUri"] != before["Code"]["ImageUri"]
    assert invoke(functions, "folder", 1)[1]["arg"] == "three"
    (tmp_path / "image/Dockerfile").write_text("FROM scratch\nCOPY nothing /\n")
    assert "nothing" in deploy(engine_cloud, template)[-1]["message"]
    for name in ("built", "folder"):
        functions.delete_function(FunctionName=name)
    for uri in (before["Code"]["ImageUri"], after["Code"]["ImageUri"]):
        subprocess.run(["podman", "rmi", "-f", uri], capture_output=True)


def deploy(cloud: LocalCloud, template: Path) -> list[dict[str, Any]]:
    document = json.dumps({"template": str(template), "stack": "app"}).encode()
    request = urllib.request.Request(f"{cloud.endpoint}/_cloudlet/deploy", data=document)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [json.loads(line) for line in answer.read().splitlines()]


HANDLER = """
import os, boto3
def handler(event, context):
    if event.get("fail"):
        raise LookupError("as asked")
    tables = boto3.client("dynamodb").list_tables()["TableNames"]
    return {"version": "v1", "event": event, "function": context.function_name,
            "memory": context.memory_limit_in_mb, "tables": tables}
"""


@pytest.fixture(scope="session")
def python_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build context: this machine's Python, AWS's runtime interface client and boto3, from scratch."""
    for needed in ("buildah", "skopeo"):
        if shutil.which(needed) is None:
            pytest.skip(f"needs {needed} to build and push an image")
    if find_spec("awslambdaric") is None or os.geteuid() != 0:
        pytest.skip("needs awslambdaric and root")
    context = tmp_path_factory.mktemp("context")
    files = context / "files"
    program = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    skipped = shutil.ignore_patterns("test", "tests", "__pycache__", "idlelib", "config-*", "*-packages", "ensurepip")
    shutil.copytree(library, files / str(library)[1:], ignore=skipped, symlinks=True)
    spec = find_spec("awslambdaric")
    assert spec is not None
    assert spec.origin is not None
    packages = Path(spec.origin).parent.parent
    few = (
        *("boto3", "botocore", "jmespath", "s3transfer", "urllib3", "dateutil", "six.py", "awslambdaric"),
        *("simplejson", "snapshot_restore_py"),
    )
    for name in few:
        source = packages / name
        target = files / "opt/python" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=lambda folder, names: _unneeded(folder, names))
        elif source.is_file():
            shutil.copy(source, target)
    for extension in packages.glob("runtime_client*.so"):
        shutil.copy(extension, files / "opt/python" / extension.name)
    binaries = [program, *(files / "opt/python").rglob("*.so"), *files.rglob("lib-dynload/*.so")]
    for path in {line for binary in binaries for line in libraries(binary)}:
        target = files / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    target = files / str(program)[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, target)
    (context / "task").mkdir()
    (context / "task/app.py").write_text(HANDLER)
    (context / "Dockerfile").write_text(
        "FROM scratch\nCOPY files /\nCOPY task /var/task\nENV PYTHONPATH=/opt/python\nWORKDIR /var/task\n"
        f'ENTRYPOINT ["{program}", "-m", "awslambdaric"]\nCMD ["app.handler"]\n'
    )
    return context


def _unneeded(folder: str, names: list[str]) -> list[str]:
    """Of botocore's data only what the function uses."""
    if folder.endswith("botocore/data"):
        return [
            name
            for name in names
            if name
            not in (
                "dynamodb",
                "endpoints.json",
                "partitions.json",
                "_retry.json",
                "sdk-default-configuration.json",
                "endpoints",
            )
        ]
    return [name for name in names if name == "__pycache__"]


def libraries(binary: Path) -> list[str]:
    """The shared libraries that a program needs, and what loads them."""
    said = subprocess.run(["ldd", str(binary)], capture_output=True, text=True).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]


def push(cloud: LocalCloud, context: Path, uri: str) -> None:
    data = cloud.client("ecr").get_authorization_token()["authorizationData"][0]
    login = base64.b64decode(data["authorizationToken"]).decode()
    local = f"localhost/cloudlet/function-test:{os.getpid()}"
    for argv in (
        ["buildah", "bud", "--layers", "--isolation", "chroot", "-t", local, str(context)],
        [
            "skopeo",
            "copy",
            "--dest-tls-verify=false",
            f"--dest-creds={login}",
            f"containers-storage:{local}",
            f"docker://{uri}",
        ],
        ["buildah", "rmi", "-f", local],
    ):
        subprocess.run(argv, check=True, capture_output=True)
