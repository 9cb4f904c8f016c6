"""Templates of this machine, as ``cloudlet deploy``, ``plan`` and ``up`` hand them to the control API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cloudlet.testing import LocalCloud, eventually

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.12, Handler: app.handler, Timeout: 10}
Resources:
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: fn
      CodeUri: src/
  Nested:
    Type: AWS::Serverless::Application
    Properties:
      Location: nested/template.yaml
      Parameters: {Delay: 4}
Outputs:
  Queue: {Value: !GetAtt Nested.Outputs.Url}
"""
NESTED = """
Parameters: {Delay: {Type: Number}}
Resources:
  Queue: {Type: AWS::SQS::Queue, Properties: {DelaySeconds: !Ref Delay}}
  Plain:
    Type: AWS::Lambda::Function
    Properties:
      FunctionName: plain
      Runtime: python3.12
      Handler: app.handler
      Role: arn:aws:iam::000000000000:role/r
      Code: ../src
Outputs: {Url: {Value: !Ref Queue}}
"""


def deploy(cloud: LocalCloud, template: Path, **more: Any) -> list[dict[str, Any]]:
    """Every event of a deployment."""
    document = {"template": str(template), "stack": "app", **more}
    request = urllib.request.Request(f"{cloud.endpoint}/_cloudlet/deploy", data=json.dumps(document).encode())
    with urllib.request.urlopen(request, timeout=100) as answer:
        return [json.loads(line) for line in answer]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def invoke(cloud: LocalCloud, name: str) -> Any:
    return json.loads(cloud.client("lambda").invoke(FunctionName=name)["Payload"].read())


def test_code_is_served_from_where_it_lies(cloud: LocalCloud, tmp_path: Path) -> None:
    template = write(tmp_path / "template.yaml", TEMPLATE)
    write(tmp_path / "nested" / "template.yaml", NESTED)
    app = write(tmp_path / "src" / "app.py", "def handler(event, context):\n    return 1\n")
    planned = cloud.control("plan", {"template": str(template), "stack": "app"})["changes"]
    assert {(one["action"], one["logicalId"]) for one in planned} == {
        ("Add", "Fn"),
        ("Add", "FnRole"),
        ("Add", "Nested"),
    }
    *events, done = deploy(cloud, template)
    assert (done["event"], done["status"], done["unchanged"]) == ("done", "CREATE_COMPLETE", False)
    assert "/Queue" in str([one["logicalId"] for one in events])
    (url,) = [one["value"] for one in done["outputs"]]
    given = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert given["DelaySeconds"] == "4"
    assert (invoke(cloud, "fn"), invoke(cloud, "plain")) == (1, 1)
    app.write_text("def handler(event, context):\n    return 2\n")
    eventually(lambda: (invoke(cloud, "fn"), invoke(cloud, "plain")) == (2, 2))
    (done,) = deploy(cloud, template)
    assert done["unchanged"]
    assert cloud.control("plan", {"template": str(template), "stack": "app"})["changes"] == []
    # A change in the nested template is a change of the stack.
    write(tmp_path / "nested" / "template.yaml", NESTED.replace("!Ref Delay", "7"))
    done = deploy(cloud, template)[-1]
    assert done["status"] == "UPDATE_COMPLETE"
    given = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert given["DelaySeconds"] == "7"
    # Where a deployment has failed, the next one starts anew.
    write(tmp_path / "template.yaml", TEMPLATE.replace("FunctionName: fn", "FunctionName: fn\n      Layers: [nope]"))
    done = deploy(cloud, template)[-1]
    assert done["status"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "Fn" in done["reason"]


def test_sources_over_their_dependencies(cloud: LocalCloud, tmp_path: Path) -> None:
    # A package that pip finds beside the sources, so that nothing is downloaded.
    wheel = tmp_path / "src" / "dep-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("dep.py", "VALUE = 40\n")
        file.writestr("dep-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: dep\nVersion: 1.0\n")
        file.writestr("dep-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("dep-1.0.dist-info/RECORD", "")
    write(tmp_path / "src" / "requirements.txt", "./dep-1.0-py3-none-any.whl\n")
    app = write(tmp_path / "src" / "app.py", "import dep\ndef handler(event, context):\n    return dep.VALUE + 1\n")
    resources = "Resources:" + TEMPLATE.partition("Resources:")[2].partition("  Nested:")[0]
    template = write(tmp_path / "template.yaml", TEMPLATE.partition("Resources:")[0] + resources)
    events = deploy(cloud, template)
    assert {"event": "message", "message": "Installing the requirements of Fn"} in events
    assert events[-1]["status"] == "CREATE_COMPLETE"
    assert invoke(cloud, "fn") == 41
    app.write_text("import dep, more\ndef handler(event, context):\n    return dep.VALUE + more.VALUE\n")
    write(tmp_path / "src" / "more.py", "VALUE = 2\n")
    eventually(lambda: invoke(cloud, "fn") == 42)
    cloud.kill()
    write(tmp_path / "src" / "more.py", "VALUE = 300\n")
    cloud.start()
    eventually(lambda: invoke(cloud, "fn") == 340)
    (done,) = deploy(cloud, template)
    assert done["unchanged"]


def test_what_is_missing_is_named_at_once(cloud: LocalCloud, tmp_path: Path) -> None:
    template = write(tmp_path / "template.yaml", TEMPLATE)
    (failed,) = deploy(cloud, template)
    assert failed["event"] == "failed"
    assert "referenced by CodeUri parameter of Fn resource" in failed["message"]
    assert "referenced by Location parameter of Nested resource" in failed["message"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        cloud.control("plan", {"template": str(tmp_path / "none.yaml"), "stack": "app"})
    assert b"cannot be read" in refused.value.read()
    refused.value.close()


def test_a_state_machine_beside_its_template(cloud: LocalCloud, tmp_path: Path) -> None:
    """What is put into a definition is put into its text: numbers and whole objects too."""
    write(
        tmp_path / "flow.asl.yaml", "StartAt: A\nStates:\n  A: {Type: Pass, Result: {n: ${N}, s: '${S}'}, End: true}\n"
    )
    text = """
        Transform: AWS::Serverless-2016-10-31
        Parameters: {N: {Type: Number, Default: 7}}
        Resources:
          Flow:
            Type: AWS::Serverless::StateMachine
            Properties:
              Role: arn:aws:iam::000000000000:role/flow
              DefinitionUri: flow.asl.yaml
              DefinitionSubstitutions: {N: !Ref N, S: !Ref AWS::Region}
        Outputs: {Flow: {Value: !Ref Flow}}
        """
    *_, done = deploy(cloud, write(tmp_path / "template.yaml", text))
    assert done["status"] == "CREATE_COMPLETE", done
    (arn,) = [one["value"] for one in done["outputs"]]
    definition = cloud.client("stepfunctions").describe_state_machine(stateMachineArn=arn)["definition"]
    assert json.loads(definition)["States"]["A"]["Result"] == {"n": 7, "s": "us-east-1"}
