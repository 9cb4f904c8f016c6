"""Stacks of Lambda, REST, HTTP and WebSocket APIs: made, left alone, changed in place, deleted."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud

URI = "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Fn.Arn}/invocations"


def template(n: int) -> str:
    """Everything that Lambda and both API Gateways have types for; every property that can change does with ``n``."""
    resources: dict[str, Any] = {
        "Resources": {
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "AssumeRolePolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Effect": "Allow",
                                "Principal": {"Service": "lambda.amazonaws.com"},
                                "Action": "sts:AssumeRole",
                            }
                        ],
                    }
                },
            },
            "Queue": {"Type": "AWS::SQS::Queue"},
            "Fn": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Handler": "index.handler",
                    "Runtime": "python3.11",
                    "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                    "Timeout": 5 + n,
                    "Code": {"ZipFile": f"def handler(e,c):\n  return {{'statusCode':200,'body':'v{n}'}}"},
                    "Environment": {"Variables": {"NN": str(n)}},
                    "Tags": [{"Key": "n", "Value": str(n)}],
                    "ReservedConcurrentExecutions": 5 + n,
                    "LoggingConfig": {"LogFormat": "JSON"},
                },
            },
            f"Version{n}": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Fn"}}},
            "Alias": {
                "Type": "AWS::Lambda::Alias",
                "Properties": {
                    "FunctionName": {"Ref": "Fn"},
                    "FunctionVersion": {"Fn::GetAtt": [f"Version{n}", "Version"]},
                    "Name": "live",
                    "Description": str(n),
                    "ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 1},
                },
            },
            "Perm": {
                "Type": "AWS::Lambda::Permission",
                "Properties": {
                    "FunctionName": {"Fn::GetAtt": ["Fn", "Arn"]},
                    "Action": "lambda:InvokeFunction",
                    "Principal": "apigateway.amazonaws.com",
                    "SourceAccount": str(n) * 12,
                },
            },
            "Url": {
                "Type": "AWS::Lambda::Url",
                "Properties": {
                    "TargetFunctionArn": {"Fn::GetAtt": ["Fn", "Arn"]},
                    "AuthType": "NONE",
                    "Cors": {"AllowOrigins": ["*"], "MaxAge": n},
                },
            },
            "Esm": {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {
                    "FunctionName": {"Ref": "Fn"},
                    "EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]},
                    "BatchSize": n + 1,
                    "Tags": [{"Key": "n", "Value": str(n)}],
                },
            },
            "Eic": {
                "Type": "AWS::Lambda::EventInvokeConfig",
                "Properties": {
                    "FunctionName": {"Ref": "Fn"},
                    "Qualifier": "$LATEST",
                    "MaximumRetryAttempts": n % 3,
                    "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["Queue", "Arn"]}}},
                },
            },
            "Http": {
                "Type": "AWS::ApiGatewayV2::Api",
                "Properties": {
                    "Name": f"http{n}",
                    "ProtocolType": "HTTP",
                    "Tags": {"n": str(n)},
                    "CorsConfiguration": {"AllowOrigins": ["*"], "MaxAge": n},
                },
            },
            "HttpInt": {
                "Type": "AWS::ApiGatewayV2::Integration",
                "Properties": {
                    "ApiId": {"Ref": "Http"},
                    "IntegrationType": "AWS_PROXY",
                    "IntegrationUri": {"Fn::GetAtt": ["Fn", "Arn"]},
                    "PayloadFormatVersion": "2.0",
                    "TimeoutInMillis": 10000 + n,
                },
            },
            "HttpRoute": {
                "Type": "AWS::ApiGatewayV2::Route",
                "Properties": {
                    "ApiId": {"Ref": "Http"},
                    "RouteKey": f"GET /r{n}",
                    "Target": {"Fn::Join": ["/", ["integrations", {"Ref": "HttpInt"}]]},
                    "AuthorizationType": "JWT",
                    "AuthorizerId": {"Ref": "HttpAuth"},
                },
            },
            "HttpAuth": {
                "Type": "AWS::ApiGatewayV2::Authorizer",
                "Properties": {
                    "ApiId": {"Ref": "Http"},
                    "Name": "a",
                    "AuthorizerType": "JWT",
                    "IdentitySource": ["$request.header.Authorization"],
                    "JwtConfiguration": {"Issuer": "http://x", "Audience": [str(n)]},
                },
            },
            "HttpStage": {
                "Type": "AWS::ApiGatewayV2::Stage",
                "Properties": {
                    "ApiId": {"Ref": "Http"},
                    "StageName": "$default",
                    "AutoDeploy": True,
                    "Description": str(n),
                    "Tags": {"n": str(n)},
                    "StageVariables": {"n": str(n)},
                },
            },
            "Ws": {
                "Type": "AWS::ApiGatewayV2::Api",
                "Properties": {
                    "Name": "ws",
                    "ProtocolType": "WEBSOCKET",
                    "RouteSelectionExpression": "$request.body.action",
                },
            },
            "WsInt": {
                "Type": "AWS::ApiGatewayV2::Integration",
                "Properties": {
                    "ApiId": {"Ref": "Ws"},
                    "IntegrationType": "AWS_PROXY",
                    "IntegrationUri": {"Fn::Sub": URI},
                },
            },
            "WsRoute": {
                "Type": "AWS::ApiGatewayV2::Route",
                "Properties": {
                    "ApiId": {"Ref": "Ws"},
                    "RouteKey": "$default",
                    "Target": {"Fn::Sub": "integrations/${WsInt}"},
                    "RouteResponseSelectionExpression": "$default",
                },
            },
            "WsRR": {
                "Type": "AWS::ApiGatewayV2::RouteResponse",
                "Properties": {"ApiId": {"Ref": "Ws"}, "RouteId": {"Ref": "WsRoute"}, "RouteResponseKey": "$default"},
            },
            "WsDep": {
                "Type": "AWS::ApiGatewayV2::Deployment",
                "DependsOn": ["WsRoute"],
                "Properties": {"ApiId": {"Ref": "Ws"}, "Description": str(n)},
            },
            "WsStage": {
                "Type": "AWS::ApiGatewayV2::Stage",
                "Properties": {"ApiId": {"Ref": "Ws"}, "StageName": "prod", "DeploymentId": {"Ref": "WsDep"}},
            },
            "Rest": {
                "Type": "AWS::ApiGateway::RestApi",
                "Properties": {
                    "Name": f"rest{n}",
                    "Description": str(n),
                    "BinaryMediaTypes": ["image/png"] if n == 1 else ["image/gif"],
                    "Tags": [{"Key": "n", "Value": str(n)}],
                },
            },
            "Res": {
                "Type": "AWS::ApiGateway::Resource",
                "Properties": {
                    "RestApiId": {"Ref": "Rest"},
                    "ParentId": {"Fn::GetAtt": ["Rest", "RootResourceId"]},
                    "PathPart": "a",
                },
            },
            "Meth": {
                "Type": "AWS::ApiGateway::Method",
                "Properties": {
                    "RestApiId": {"Ref": "Rest"},
                    "ResourceId": {"Ref": "Res"},
                    "HttpMethod": "GET",
                    "AuthorizationType": "CUSTOM",
                    "AuthorizerId": {"Ref": "RAuth"},
                    "RequestValidatorId": {"Ref": "RVal"},
                    "RequestModels": {"application/json": {"Ref": "RModel"}},
                    "Integration": {
                        "Type": "AWS",
                        "IntegrationHttpMethod": "POST",
                        "Uri": {"Fn::Sub": URI},
                        "RequestTemplates": {"application/json": f'{{"n":{n},"x":$input.json("$")}}'},
                        "IntegrationResponses": [
                            {"StatusCode": "200"},
                            {"StatusCode": "500", "SelectionPattern": ".+"},
                        ],
                    },
                    "MethodResponses": [{"StatusCode": "200"}, {"StatusCode": "500"}],
                },
            },
            "RAuth": {
                "Type": "AWS::ApiGateway::Authorizer",
                "Properties": {
                    "RestApiId": {"Ref": "Rest"},
                    "Name": "auth",
                    "Type": "TOKEN",
                    "IdentitySource": "method.request.header.Authorization",
                    "AuthorizerUri": {"Fn::Sub": URI},
                    "AuthorizerResultTtlInSeconds": n,
                },
            },
            "RModel": {
                "Type": "AWS::ApiGateway::Model",
                "Properties": {
                    "RestApiId": {"Ref": "Rest"},
                    "ContentType": "application/json",
                    "Schema": {"type": "object", "minProperties": n},
                },
            },
            "RVal": {
                "Type": "AWS::ApiGateway::RequestValidator",
                "Properties": {"RestApiId": {"Ref": "Rest"}, "Name": "v", "ValidateRequestBody": n == 1},
            },
            "RGw": {
                "Type": "AWS::ApiGateway::GatewayResponse",
                "Properties": {
                    "RestApiId": {"Ref": "Rest"},
                    "ResponseType": "DEFAULT_4XX",
                    "ResponseTemplates": {"application/json": f'{{"n":{n}}}'},
                },
            },
            "RDep": {
                "Type": "AWS::ApiGateway::Deployment",
                "DependsOn": ["Meth"],
                "Properties": {"RestApiId": {"Ref": "Rest"}, "Description": str(n)},
            },
            "RStage": {
                "Type": "AWS::ApiGateway::Stage",
                "Properties": {
                    "RestApiId": {"Ref": "Rest"},
                    "DeploymentId": {"Ref": "RDep"},
                    "StageName": "prod",
                    "Variables": {"n": str(n)},
                    "MethodSettings": [
                        {
                            "ResourcePath": "/*",
                            "HttpMethod": "*",
                            "ThrottlingRateLimit": 10 * n,
                            "ThrottlingBurstLimit": 5,
                        }
                    ],
                    "Tags": [{"Key": "n", "Value": str(n)}],
                },
            },
            "Key": {
                "Type": "AWS::ApiGateway::ApiKey",
                "Properties": {"Name": "k", "Enabled": n == 1, "Description": str(n)},
            },
            "Plan": {
                "Type": "AWS::ApiGateway::UsagePlan",
                "Properties": {
                    "UsagePlanName": "p",
                    "Description": str(n),
                    "Throttle": {"RateLimit": 10 * n, "BurstLimit": n},
                    "Quota": {"Limit": n, "Period": "DAY"},
                    "ApiStages": [{"ApiId": {"Ref": "Rest"}, "Stage": {"Ref": "RStage"}}],
                },
            },
            "PlanKey": {
                "Type": "AWS::ApiGateway::UsagePlanKey",
                "Properties": {"KeyId": {"Ref": "Key"}, "KeyType": "API_KEY", "UsagePlanId": {"Ref": "Plan"}},
            },
            "Dom": {
                "Type": "AWS::ApiGateway::DomainName",
                "Properties": {
                    "DomainName": "r.test",
                    "EndpointConfiguration": {"Types": ["REGIONAL"]},
                    "RegionalCertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/x",
                    "SecurityPolicy": "TLS_1_2",
                },
            },
            "Bpm": {
                "Type": "AWS::ApiGateway::BasePathMapping",
                "Properties": {
                    "DomainName": {"Ref": "Dom"},
                    "RestApiId": {"Ref": "Rest"},
                    "Stage": {"Ref": "RStage"},
                    "BasePath": "b",
                },
            },
            "Dom2": {
                "Type": "AWS::ApiGatewayV2::DomainName",
                "Properties": {
                    "DomainName": "h.test",
                    "DomainNameConfigurations": [
                        {
                            "CertificateArn": f"arn:aws:acm:us-east-1:000000000000:certificate/{n}",
                            "EndpointType": "REGIONAL",
                        }
                    ],
                },
            },
            "Map2": {
                "Type": "AWS::ApiGatewayV2::ApiMapping",
                "Properties": {
                    "DomainName": {"Ref": "Dom2"},
                    "ApiId": {"Ref": "Http"},
                    "Stage": {"Ref": "HttpStage"},
                    "ApiMappingKey": f"k{n}",
                },
            },
        }
    }
    return json.dumps(resources)


def settled(cfn: Any) -> str:
    """The stack's status once nothing is under way."""
    for _ in range(600):
        try:
            status: str = cfn.describe_stacks(StackName="s")["Stacks"][0]["StackStatus"]
        except ClientError:
            return "GONE"
        if not status.endswith("IN_PROGRESS"):
            return status
        time.sleep(0.05)
    raise AssertionError("the stack does not settle")


def physical(cfn: Any) -> dict[str, str]:
    found = cfn.list_stack_resources(StackName="s")["StackResourceSummaries"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}


def test_stack_is_made_left_alone_changed_in_place_and_deleted(cloud: LocalCloud) -> None:
    cfn, functions = cloud.client("cloudformation"), cloud.client("lambda")
    http, rest = cloud.client("apigatewayv2"), cloud.client("apigateway")
    capabilities = ["CAPABILITY_NAMED_IAM"]
    cfn.create_stack(StackName="s", TemplateBody=template(1), Capabilities=capabilities)
    assert settled(cfn) == "CREATE_COMPLETE"
    before = physical(cfn)
    with pytest.raises(ClientError, match="No updates"):
        cfn.update_stack(StackName="s", TemplateBody=template(1), Capabilities=capabilities)
    cfn.update_stack(StackName="s", TemplateBody=template(2), Capabilities=capabilities)
    assert settled(cfn) == "UPDATE_COMPLETE"
    after = physical(cfn)
    assert {name for name, id in before.items() if after.get(name) != id} == {"Perm", "Version1"}

    found = functions.get_function(FunctionName=after["Fn"])
    assert (found["Configuration"]["Timeout"], found["Tags"]["n"]) == (7, "2")
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    answer = functions.invoke(FunctionName=after["Fn"], Qualifier="live")
    assert (json.loads(answer["Payload"].read())["body"], answer["ExecutedVersion"]) == ("v2", "2")
    mapping = functions.get_event_source_mapping(UUID=after["Esm"])
    assert functions.list_tags(Resource=mapping["EventSourceMappingArn"])["Tags"]["n"] == "2"
    assert http.get_api(ApiId=after["Http"])["Tags"]["n"] == "2"
    assert http.get_stage(ApiId=after["Http"], StageName="$default")["StageVariables"] == {"n": "2"}
    api = rest.get_rest_api(restApiId=after["Rest"])
    assert (api["binaryMediaTypes"], api["tags"]["n"]) == (["image/gif"], "2")
    stage = rest.get_stage(restApiId=after["Rest"], stageName="prod")
    assert stage["methodSettings"]["*/*"]["throttlingRateLimit"] == 20.0
    assert rest.get_usage_plan(usagePlanId=after["Plan"])["quota"] == {"limit": 2, "period": "DAY"}

    cfn.delete_stack(StackName="s")
    assert settled(cfn) == "GONE"
    assert functions.list_functions()["Functions"] == []
    assert http.get_apis()["Items"] == rest.get_rest_apis()["items"] == rest.get_api_keys()["items"] == []


def test_changes_at_once_all_hold(cloud: LocalCloud) -> None:
    """Settings of one function, and methods of one resource, are kept together: no change loses another."""
    from concurrent.futures import ThreadPoolExecutor

    from test_lambda import make

    functions, rest = cloud.client("lambda"), cloud.client("apigateway")
    arn = make(cloud, "busy", "def handler(e, c): pass")
    made = rest.create_rest_api(name="busy")
    where = {"restApiId": made["id"], "resourceId": made["rootResourceId"]}

    def change(number: int) -> None:
        functions.tag_resource(Resource=arn, Tags={f"t{number}": "x"})
        principal = {"Action": "lambda:InvokeFunction", "Principal": "sns.amazonaws.com"}
        functions.add_permission(FunctionName="busy", StatementId=f"s{number}", **principal)

    verbs = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "ANY")

    def method(verb: str) -> None:
        rest.put_method(**where, httpMethod=verb, authorizationType="NONE")
        rest.put_integration(**where, httpMethod=verb, type="MOCK")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(12)))
        list(pool.map(method, verbs))
    assert len(functions.list_tags(Resource=arn)["Tags"]) == 12
    assert len(json.loads(functions.get_policy(FunctionName="busy")["Policy"])["Statement"]) == 12
    (root,) = rest.get_resources(restApiId=made["id"], embed=["methods"])["items"]
    assert sorted(root["resourceMethods"]) == sorted(verbs)
    assert all("methodIntegration" in one for one in root["resourceMethods"].values())
