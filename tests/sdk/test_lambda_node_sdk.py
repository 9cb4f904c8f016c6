"""AWS's SDK for JavaScript is there for functions that do not bring it, as on Lambda."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from typing import Any

import pytest

from cloudlet.testing import LocalCloud

pytestmark = [
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node or npm is not installed"),
    pytest.mark.timeout(180),
]

IMPORTED = """
import { SQSClient, ListQueuesCommand } from "@aws-sdk/client-sqs";
export const handler = async () => (await new SQSClient({}).send(new ListQueuesCommand({}))).QueueUrls;
"""
NAMED_LATE = """
exports.handler = async (event) => Object.keys(require("@aws-sdk/" + event.name)).length > 3;
"""


def invoke(cloud: LocalCloud, file: str, code: str, event: Any) -> Any:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(file, code)
    functions = cloud.client("lambda")
    functions.create_function(
        FunctionName="f",
        Runtime="nodejs20.x",
        Handler="index.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": packed.getvalue()},
        Timeout=120,
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="f")
    return json.load(functions.invoke(FunctionName="f", Payload=json.dumps(event))["Payload"])


def test_a_module_imports_it(cloud: LocalCloud) -> None:
    cloud.client("sqs").create_queue(QueueName="mine")
    (url,) = invoke(cloud, "index.mjs", IMPORTED, {})
    assert url.endswith("/mine")


def test_a_package_whose_name_is_known_late(cloud: LocalCloud) -> None:
    assert invoke(cloud, "index.js", NAMED_LATE, {"name": "client-sts"}) is True
    assert cloud.client("lambda").invoke(FunctionName="f", Payload=b'{"name": "no-such"}')["FunctionError"]
