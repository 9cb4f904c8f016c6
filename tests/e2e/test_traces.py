"""An application whose parts are all traced, deployed from SAM: its map is drawn by X-Ray's API."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from cloudlet.testing import LocalCloud, eventually

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Tracing: Active, Runtime: python3.11, Handler: app.handler, CodeUri: src}
  Api: {TracingEnabled: true}
Resources:
  All:
    Type: AWS::XRay::SamplingRule
    Properties:
      SamplingRule:
        {RuleName: all, Priority: 1, FixedRate: 1, ReservoirSize: 100, ServiceName: "*", ServiceType: "*", Host: "*",
         HTTPMethod: "*", URLPath: "*", ResourceARN: "*", Version: 1}
  Front:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: front
      Environment: {Variables: {TOPIC: !Ref Topic}}
      Events: {Get: {Type: Api, Properties: {Path: /, Method: get}}}
  Back:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: back
      Events: {Told: {Type: SNS, Properties: {Topic: !Ref Topic}}}
  Topic: {Type: AWS::SNS::Topic, Properties: {TopicName: topic, TracingConfig: Active}}
Outputs:
  Url: {Value: !Sub "https://${ServerlessRestApi}.execute-api.${AWS::Region}.amazonaws.com/Prod/"}
"""
CODE = """
import os
import boto3

def handler(event, context):
    if "TOPIC" in os.environ:
        boto3.client("sns").publish(TopicArn=os.environ["TOPIC"], Message="x")
    return {"statusCode": 200, "body": "ok"}
"""
MAP = {
    ("shop/Prod client", "shop/Prod AWS::ApiGateway::Stage"),
    ("shop/Prod AWS::ApiGateway::Stage", "front AWS::Lambda"),
    ("front AWS::Lambda", "front AWS::Lambda::Function"),
    ("front AWS::Lambda::Function", "topic AWS::SNS::Topic"),
    ("topic AWS::SNS::Topic", "back AWS::Lambda"),
    ("back AWS::Lambda", "back AWS::Lambda::Function"),
}


def edges(cloud: LocalCloud) -> set[tuple[str, str]]:
    """Who calls whom."""
    now = time.time()
    services = cloud.client("xray").get_service_graph(StartTime=now - 60, EndTime=now + 60)["Services"]
    names = {one["ReferenceId"]: f"{one['Name']} {one['Type']}" for one in services}
    return {(names[one["ReferenceId"]], names[edge["ReferenceId"]]) for one in services for edge in one["Edges"]}


def test_the_map_of_an_application(cloud: LocalCloud, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/app.py").write_text(CODE)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    deploy = (sys.executable, "-m", "cloudlet", "deploy", "template.yaml", "--endpoint", cloud.endpoint)
    subprocess.run([*deploy, "--stack", "shop"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    [stack] = cloud.client("cloudformation").describe_stacks(StackName="shop")["Stacks"]
    url = next(one["OutputValue"] for one in stack["Outputs"] if one["OutputKey"] == "Url")
    assert urllib.request.urlopen(url, timeout=20).read() == b"ok"
    eventually(lambda: edges(cloud) == MAP)
