"""The Runtime API as Lambda's own clients use it: AWS's runtime interface client runs as a ``provided`` runtime."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from cloudlet.testing import LocalCloud


@pytest.mark.skipif(find_spec("awslambdaric") is None, reason="awslambdaric is not installed")
def test_official_python_runtime_client_works() -> None:
    spec = find_spec("awslambdaric")
    assert spec is not None
    assert spec.origin is not None
    packages = Path(spec.origin).parent.parent
    path = f"{packages}:$LAMBDA_TASK_ROOT"
    bootstrap = f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} -m awslambdaric "$_HANDLER"\n'
    source = """
import os
def handler(event, context):
    if event.get("fail"):
        raise LookupError("as asked")
    print("seen", event)
    return {"pid": os.getpid(), "size": len(event.get("text", "")), "left": context.get_remaining_time_in_millis()}
"""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in (("bootstrap", bootstrap), ("app.py", source)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, content)
    # The client lies in the test's own environment, which an isolated sandbox would not see.
    with LocalCloud("--isolation", "none") as cloud:
        functions = cloud.client("lambda")
        functions.create_function(
            FunctionName="official",
            Runtime="provided.al2023",
            Handler="app.handler",
            Role="arn:aws:iam::000000000000:role/anyone",
            Code={"ZipFile": packed.getvalue()},
            Timeout=20,
        )
        seen = set()
        for size in (0, 10, 1_000_000):
            event = json.dumps({"text": "x" * size}).encode()
            answer = functions.invoke(FunctionName="official", Payload=event)
            told = json.loads(answer["Payload"].read())
            assert told["size"] == size
            assert 0 < told["left"] <= 20_000
            seen.add(told["pid"])
        assert len(seen) == 1
        failed = functions.invoke(FunctionName="official", Payload=b'{"fail": true}')
        assert failed["FunctionError"] == "Unhandled"
        assert json.loads(failed["Payload"].read())["errorType"] == "LookupError"
