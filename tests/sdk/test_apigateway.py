"""REST APIs: the tree, methods and integrations, deployments, keys, validation, functions, definitions."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from test_apigatewayv2 import HANDLER, ask, function

from cloudlet.testing import LocalCloud, eventually


def deployed(cloud: LocalCloud, api: Any, api_id: str, stage: str = "prod") -> str:
    """Publish an API as it is now; returns its URL."""
    api.create_deployment(restApiId=api_id, stageName=stage)
    return f"{cloud.endpoint}/_cloudlet/execute-api/{api_id}/{stage}"


def uri(arn: str) -> str:
    """How an integration names a function."""
    return f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"


def mock(api: Any, api_id: str, resource_id: str, method: str, **settings: Any) -> None:
    """A method that answers by itself, with the method's name in a header."""
    where = {"restApiId": api_id, "resourceId": resource_id, "httpMethod": method}
    api.put_method(**where, authorizationType="NONE", **settings)
    api.put_method_response(**where, statusCode="200", responseParameters={"method.response.header.x-method": False})
    api.put_integration(**where, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    api.put_integration_response(
        **where, statusCode="200", responseParameters={"method.response.header.x-method": f"'{method}'"}
    )


def test_a_tree_of_methods_is_published_by_deployments(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    made = api.create_rest_api(name="tree", endpointConfiguration={"types": ["REGIONAL"]})
    api_id, root = made["id"], made["rootResourceId"]
    with pytest.raises(api.exceptions.BadRequestException, match="doesn't contain any methods"):
        api.create_deployment(restApiId=api_id)
    users = api.create_resource(restApiId=api_id, parentId=root, pathPart="users")
    one = api.create_resource(restApiId=api_id, parentId=users["id"], pathPart="{id}")
    assert one["path"] == "/users/{id}"
    with pytest.raises(api.exceptions.ConflictException):
        api.create_resource(restApiId=api_id, parentId=root, pathPart="users")
    with pytest.raises(api.exceptions.NotFoundException):
        api.create_resource(restApiId=api_id, parentId="nowhere", pathPart="x")
    mock(api, api_id, one["id"], "GET")
    mock(api, api_id, users["id"], "ANY")
    url = deployed(cloud, api, api_id)
    status, headers, _ = ask(f"{url}/users/7")
    assert (status, headers["x-method"]) == (200, "GET")
    assert ask(f"{url}/users", "PUT", b"{}", content_type="application/json")[1]["x-method"] == "ANY"
    status, headers, body = ask(f"{url}/nothing")
    assert (status, headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")
    assert json.loads(body) == {"message": "Missing Authentication Token"}
    assert ask(url.replace("prod", "dev") + "/users")[0] == 403

    mock(api, api_id, one["id"], "DELETE")
    assert ask(f"{url}/users/7", "DELETE")[0] == 403, "a change is not public before it is deployed"
    deployed(cloud, api, api_id)
    assert ask(f"{url}/users/7", "DELETE")[0] == 200

    api.update_stage(
        restApiId=api_id,
        stageName="prod",
        patchOperations=[
            {"op": "replace", "path": "/*/*/logging/loglevel", "value": "INFO"},
            {"op": "replace", "path": "/variables/colour", "value": "red"},
        ],
    )
    stage = api.get_stage(restApiId=api_id, stageName="prod")
    assert stage["variables"] == {"colour": "red"}
    assert stage["methodSettings"]["*/*"]["loggingLevel"] == "INFO"
    cloud.kill()
    cloud.start()
    assert ask(f"{url}/users/7")[0] == 200
    assert len(api.get_resources(restApiId=api_id, embed=["methods"])["items"]) == 3
    api.delete_rest_api(restApiId=api_id)
    assert ask(f"{url}/users/7")[0] == 404


def test_a_function_behind_a_method(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    arn = function(cloud, "echo", HANDLER)
    made = api.create_rest_api(name="echo")
    api_id = made["id"]
    proxy = api.create_resource(restApiId=api_id, parentId=made["rootResourceId"], pathPart="{proxy+}")
    where = {"restApiId": api_id, "resourceId": proxy["id"], "httpMethod": "ANY"}
    api.put_method(**where, authorizationType="NONE")
    api.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri(arn))
    url = deployed(cloud, api, api_id)
    status, _, body = ask(f"{url}/a/b%20c?q=1&q=2", "POST", b"text", content_type="text/plain")
    event = json.loads(body)
    assert status == 200
    assert (event["resource"], event["path"], event["httpMethod"]) == ("/{proxy+}", "/a/b c", "POST")
    assert event["pathParameters"] == {"proxy": "a/b c"}
    assert event["multiValueQueryStringParameters"] == {"q": ["1", "2"]}
    assert event["requestContext"]["stage"] == "prod"
    assert (event["body"], event["isBase64Encoded"]) == ("text", False)

    function(cloud, "wrong", "def handler(event, context):\n    return {'unexpected': 1}\n")
    api.update_integration(
        **where, patchOperations=[{"op": "replace", "path": "/uri", "value": uri(arn.replace("echo", "wrong"))}]
    )
    deployed(cloud, api, api_id)
    status, _, body = ask(f"{url}/x")
    assert (status, json.loads(body)) == (502, {"message": "Internal server error"})


def test_keys_and_validation_refuse_with_the_apis_own_words(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    made = api.create_rest_api(name="guarded")
    api_id, root = made["id"], made["rootResourceId"]
    validator = api.create_request_validator(
        restApiId=api_id, name="all", validateRequestBody=True, validateRequestParameters=True
    )["id"]
    schema = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    api.create_model(restApiId=api_id, name="User", contentType="application/json", schema=json.dumps(schema))
    mock(
        api,
        api_id,
        root,
        "POST",
        apiKeyRequired=True,
        requestValidatorId=validator,
        requestModels={"application/json": "User"},
        requestParameters={"method.request.querystring.page": True},
    )
    api.put_gateway_response(
        restApiId=api_id,
        responseType="BAD_REQUEST_BODY",
        statusCode="422",
        responseParameters={"gatewayresponse.header.x-why": "'body'"},
        responseTemplates={"application/json": '{"error": $context.error.messageString}'},
    )
    url = deployed(cloud, api, api_id)
    key = api.create_api_key(name="client", enabled=True)
    plan = api.create_usage_plan(name="plan", apiStages=[{"apiId": api_id, "stage": "prod"}])
    assert ask(f"{url}?page=1", "POST", b'{"name": "ada"}', x_api_key=key["value"])[0] == 403
    api.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
    json_body = {"content_type": "application/json", "x_api_key": key["value"]}
    assert ask(f"{url}?page=1", "POST", b'{"name": "ada"}', **json_body)[0] == 200
    assert ask(f"{url}?page=1", "POST", b'{"name": "ada"}')[0] == 403
    status, _, body = ask(url, "POST", b'{"name": "ada"}', **json_body)
    assert (status, json.loads(body)["message"]) == (400, "Missing required request parameters: [page]")
    status, headers, body = ask(f"{url}?page=1", "POST", b'{"name": 7}', **json_body)
    assert (status, headers["x-why"], json.loads(body)) == (422, "body", {"error": "Invalid request body"})


def test_an_api_from_its_definition(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    arn = function(cloud, "echo", HANDLER)
    portable = uri(arn).replace("us-east-1", "${AWS::Region}").replace("000000000000", "${AWS::AccountId}")
    definition = {
        "swagger": "2.0",
        "info": {"title": "defined", "version": "1"},
        "x-amazon-apigateway-binary-media-types": ["image/*"],
        "paths": {
            "/items/{id}": {
                "get": {"x-amazon-apigateway-integration": {"type": "aws_proxy", "httpMethod": "POST", "uri": portable}}
            }
        },
    }
    made = api.import_rest_api(body=json.dumps(definition).encode())
    assert made["name"] == "defined"
    url = deployed(cloud, api, made["id"])
    assert json.loads(ask(f"{url}/items/5")[2])["pathParameters"] == {"id": "5"}
    definition["paths"]["/more"] = definition["paths"].pop("/items/{id}")  # type: ignore[index]
    api.put_rest_api(restApiId=made["id"], mode="overwrite", body=json.dumps(definition).encode())
    deployed(cloud, api, made["id"])
    assert ask(f"{url}/more")[0] == 200
    assert ask(f"{url}/items/5")[0] == 403
    with pytest.raises(api.exceptions.BadRequestException):
        api.import_rest_api(body=b"[]")
    resource = next(item for item in api.get_resources(restApiId=made["id"])["items"] if item["path"] == "/more")
    where = {"restApiId": made["id"], "resourceId": resource["id"], "httpMethod": "GET"}
    with pytest.raises(api.exceptions.ClientError, match="Invalid ARN"):
        api.put_integration(**where, type="AWS", integrationHttpMethod="POST", uri="x")


def method(api: Any, api_id: str, resource_id: str, verb: str, integration: dict[str, Any], **responses: Any) -> None:
    """A method with an integration; ``default`` and other responses as PutIntegrationResponse takes them."""
    where = {"restApiId": api_id, "resourceId": resource_id, "httpMethod": verb}
    api.put_method(**where, authorizationType="NONE")
    api.put_integration(**where, integrationHttpMethod="POST", **integration)
    for response in responses.values():
        status = response["statusCode"]
        targets = dict.fromkeys(response.get("responseParameters", {}), False)
        api.put_method_response(**where, statusCode=status, responseParameters=targets)
        api.put_integration_response(**where, **response)


def test_mappings_around_a_function(cloud: LocalCloud) -> None:
    """A custom integration: the request by a template, errors by their messages, the answer by a template."""
    api = cloud.client("apigateway")
    source = """
def handler(event, context):
    if event["id"] == "none":
        raise LookupError("[404] there is no such order")
    return {"order": event, "items": [{"name": "bread", "price": 3}, {"name": "milk", "price": 2.5}]}
"""
    arn = function(cloud, "orders", source)
    made = api.create_rest_api(name="custom")
    api_id = made["id"]
    one = api.create_resource(restApiId=api_id, parentId=made["rootResourceId"], pathPart="{id}")["id"]
    request = """
#set($all = $input.params())
{
  "id": "$input.params('id')", "verb": "$context.httpMethod", "stage": "$stageVariables.colour",
  "who": $input.json('$.customer.name'), "first": "$input.path('$.lines[0].sku')",
  "query": {#foreach($key in $all.querystring.keySet())
  "$key": "$util.escapeJavaScript($all.querystring.get($key)).replaceAll("\\\\'", "'")"
  #if($foreach.hasNext),#end#end}
}"""
    answer = """#set($found = $input.path('$'))
#if($found.items.size() > 1)
#set($context.responseOverride.header.x-count = $found.items.size())
#end
{"who": "$found.order.who", "id": "$found.order.id", "stage": "$found.order.stage",
"query": $input.json('$.order.query'),
"first": "$found.order.first", "names": [#foreach($item in $found.items)"$item.name"#if($foreach.hasNext), #end#end]}"""
    method(
        api,
        api_id,
        one,
        "POST",
        {
            "type": "AWS",
            "uri": uri(arn),
            "requestTemplates": {"application/json": request},
            "passthroughBehavior": "NEVER",
        },
        default={"statusCode": "200", "responseTemplates": {"application/json": answer}},
        missing={
            "statusCode": "404",
            "selectionPattern": r"\[404\].*",
            "responseParameters": {"method.response.header.x-why": "integration.response.body.errorType"},
            "responseTemplates": {"application/json": '{"sorry": "$input.path(\'$.errorMessage\')"}'},
        },
    )
    api.create_deployment(restApiId=api_id, stageName="prod", variables={"colour": "red"})
    url = f"{cloud.endpoint}/_cloudlet/execute-api/{api_id}/prod"
    order = json.dumps({"customer": {"name": "Zoë"}, "lines": [{"sku": "a-1"}]}).encode()
    status, headers, body = ask(f"{url}/7?a=it%27s", "POST", order, content_type="application/json")
    assert status == 200, body
    assert json.loads(body) == {
        "who": "Zoë",
        "id": "7",
        "stage": "red",
        "first": "a-1",
        "query": {"a": "it's"},
        "names": ["bread", "milk"],
    }
    assert headers["x-count"] == "2"
    status, headers, body = ask(f"{url}/none", "POST", order, content_type="application/json")
    assert (status, headers["x-why"]) == (404, "LookupError")
    assert json.loads(body) == {"sorry": "[404] there is no such order"}
    assert ask(f"{url}/7", "POST", b"<x/>", content_type="application/xml")[0] == 415
    with pytest.raises(api.exceptions.BadRequestException, match="mapping template"):
        method(api, api_id, one, "PUT", {"type": "MOCK", "requestTemplates": {"application/json": "#if($a) x"}})


def test_services_behind_methods(cloud: LocalCloud) -> None:
    """Queues by their path and form, tables by their action and JSON, topics by their action and query."""
    api, sqs = cloud.client("apigateway"), cloud.client("sqs")
    queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
    made = api.create_rest_api(name="direct")
    api_id, root = made["id"], made["rootResourceId"]
    names = ("queue", "table", "states")
    resources = {name: api.create_resource(restApiId=api_id, parentId=root, pathPart=name)["id"] for name in names}
    ok = {"statusCode": "200", "responseTemplates": {"application/json": '{"id": $input.json("$..MessageId")}'}}
    role = "arn:aws:iam::000000000000:role/gateway"
    form = {"integration.request.header.Content-Type": "'application/x-www-form-urlencoded'"}
    method(
        api,
        api_id,
        resources["queue"],
        "POST",
        {
            "type": "AWS",
            "credentials": role,
            "uri": "arn:aws:apigateway:us-east-1:sqs:path/000000000000/orders",
            "requestParameters": form,
            "requestTemplates": {"application/json": "Action=SendMessage&MessageBody=$util.urlEncode($input.body)"},
        },
        default={"statusCode": "202", "responseTemplates": {"application/json": '{"queued": true}'}},
    )
    put = '{"TableName": "things", "Item": {"id": {"S": $input.json("$.id")}}}'
    method(
        api,
        api_id,
        resources["table"],
        "POST",
        {
            "type": "AWS",
            "credentials": role,
            "uri": "arn:aws:apigateway:us-east-1:dynamodb:action/PutItem",
            "requestTemplates": {"application/json": put},
        },
        default={**ok, "responseTemplates": {"application/json": "{}"}},
        wrong={"statusCode": "400", "selectionPattern": r"4\d\d"},
    )
    url = deployed(cloud, api, api_id)
    status, _, body = ask(f"{url}/queue", "POST", b'{"n": 1}', content_type="application/json")
    assert (status, json.loads(body)) == (202, {"queued": True})
    assert sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == '{"n": 1}'
    status, _, body = ask(f"{url}/table", "POST", b'{"id": "x"}', content_type="application/json")
    assert (status, json.loads(body)["__type"].rsplit("#")[-1]) == (400, "ResourceNotFoundException")
    cloud.client("dynamodb").create_table(
        TableName="things",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert ask(f"{url}/table", "POST", b'{"id": "x"}', content_type="application/json")[0] == 200
    assert cloud.client("dynamodb").get_item(TableName="things", Key={"id": {"S": "x"}})["Item"] == {"id": {"S": "x"}}


def test_rates_quotas_canaries_and_logs(cloud: LocalCloud) -> None:
    api, logs = cloud.client("apigateway"), cloud.client("logs")
    made = api.create_rest_api(name="limited")
    api_id, root = made["id"], made["rootResourceId"]
    mock(api, api_id, root, "GET", apiKeyRequired=True)
    url = deployed(cloud, api, api_id)
    key = api.create_api_key(name="client", enabled=True)
    plan = api.create_usage_plan(
        name="plan",
        apiStages=[{"apiId": api_id, "stage": "prod"}],
        throttle={"rateLimit": 1.0, "burstLimit": 2},
        quota={"limit": 4, "period": "DAY"},
    )
    api.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")

    def get() -> int:
        return ask(url, x_api_key=key["value"])[0]

    assert [get() for _ in range(3)] == [200, 200, 429]
    cloud.advance(10)
    assert [get() for _ in range(2)] == [200, 200]
    cloud.advance(10)
    status, _, body = ask(url, x_api_key=key["value"])
    assert (status, json.loads(body)["message"]) == (429, "Limit Exceeded")
    cloud.kill()
    cloud.start()
    url = f"{cloud.endpoint}/_cloudlet/execute-api/{api_id}/prod"
    assert get() == 429
    cloud.advance(86_400)
    assert get() == 200
    api = cloud.client("apigateway")
    usage = api.get_usage(usagePlanId=plan["id"], startDate="2020-01-01", endDate="2100-01-01")["items"][key["id"]]
    assert [day for day in usage if day[0]] == [[4, 0], [1, 3]]

    logs = cloud.client("logs")
    logs.create_log_group(logGroupName="access")
    api.update_stage(
        restApiId=api_id,
        stageName="prod",
        patchOperations=[
            {
                "op": "replace",
                "path": "/accessLogSettings/destinationArn",
                "value": "arn:aws:logs:us-east-1:000000000000:log-group:access",
            },
            {"op": "replace", "path": "/accessLogSettings/format", "value": "$context.httpMethod $context.status"},
        ],
    )
    mock(api, api_id, root, "PUT")
    api.create_deployment(restApiId=api_id, stageName="prod", canarySettings={"percentTraffic": 100.0})
    assert ask(url, "PUT")[0] == 200
    api.update_stage(
        restApiId=api_id,
        stageName="prod",
        patchOperations=[{"op": "replace", "path": "/canarySettings/percentTraffic", "value": "0.0"}],
    )
    assert ask(url, "PUT")[0] == 403
    lines = eventually(lambda: len(told := logs.filter_log_events(logGroupName="access")["events"]) == 2 and told)
    assert [event["message"] for event in lines] == ["PUT 200", "PUT 403"]


def numbered(api: Any, path: str = "orders", **integration: Any) -> tuple[str, str]:
    """An API with ``GET /orders/{id}`` whose every answer is another; returns its id and the resource's."""
    made = api.create_rest_api(name="numbered")
    above = api.create_resource(restApiId=made["id"], parentId=made["rootResourceId"], pathPart=path)
    one = api.create_resource(restApiId=made["id"], parentId=above["id"], pathPart="{id}")
    where = {"restApiId": made["id"], "resourceId": one["id"], "httpMethod": "GET"}
    parameters = {"method.request.querystring.page": False}
    api.put_method(**where, authorizationType="NONE", requestParameters=parameters)
    api.put_method_response(**where, statusCode="200")
    templates = {"application/json": '{"statusCode": 200}'}
    api.put_integration(**where, type="MOCK", requestTemplates=templates, **integration)
    answer = {"application/json": "$context.requestId " + "x" * 2000}
    api.put_integration_response(**where, statusCode="200", responseTemplates=answer)
    return made["id"], one["id"]


def change_stage(api: Any, api_id: str, **values: str) -> None:
    """Patch the stage ``prod``."""
    operations = [{"op": "replace", "path": path, "value": value} for path, value in values.items()]
    api.update_stage(restApiId=api_id, stageName="prod", patchOperations=operations)


def test_a_stage_remembers_answers(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    api_id, _ = numbered(api, cacheKeyParameters=["method.request.querystring.page"])
    url = deployed(cloud, api, api_id)
    with pytest.raises(api.exceptions.BadRequestException):
        api.flush_stage_cache(restApiId=api_id, stageName="prod")
    with pytest.raises(api.exceptions.BadRequestException, match="cache cluster size"):
        change_stage(api, api_id, **{"/cacheClusterEnabled": "true", "/cacheClusterSize": "3"})
    change_stage(api, api_id, **{"/cacheClusterEnabled": "true"})
    stage = api.get_stage(restApiId=api_id, stageName="prod")
    assert (stage["cacheClusterStatus"], stage["cacheClusterSize"]) == ("AVAILABLE", "0.5")

    def get(query: str = "", **headers: str) -> bytes:
        return ask(f"{url}/orders/7{query}", **headers)[2]

    assert get() != get(), "no method's answers are remembered yet"
    change_stage(api, api_id, **{"/*/*/caching/enabled": "true"})
    first = get()
    assert get() == first == ask(f"{url}/orders/8")[2], "what is no cache key parameter makes no difference"
    assert get("?page=2") == get("?page=2") != first
    cloud.advance(301)
    assert get() != first

    # Who wants a fresh answer needs a signature, unless the stage says otherwise.
    first = get()
    _, headers, body = ask(f"{url}/orders/7", cache_control="max-age=0")
    assert body == first
    assert headers["warning"].startswith("199 Cache-control headers were ignored")
    change_stage(api, api_id, **{"/*/*/caching/unauthorizedCacheControlHeaderStrategy": "FAIL_WITH_403"})
    assert ask(f"{url}/orders/7", cache_control="max-age=0")[0] == 403
    change_stage(api, api_id, **{"/*/*/caching/requireAuthorizationForCacheControl": "false"})
    fresh = get(cache_control="max-age=0")
    assert fresh != first
    assert get() == fresh
    api.flush_stage_cache(restApiId=api_id, stageName="prod")
    assert get() != fresh

    # A method's own settings count over those of all; here they are those of a nested path.
    change_stage(api, api_id, **{"/~1orders~1{id}/GET/caching/ttlInSeconds": "0"})
    assert get() != get()
    api.update_stage(
        restApiId=api_id, stageName="prod", patchOperations=[{"op": "remove", "path": "/~1orders~1{id}/GET"}]
    )
    assert list(api.get_stage(restApiId=api_id, stageName="prod")["methodSettings"]) == ["*/*"]
    assert get() == get()


def test_what_a_stage_says_of_one_method_holds_for_it(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    api_id, _ = numbered(api)
    url = deployed(cloud, api, api_id)
    where = "/~1orders~1{id}/GET"
    limits = {f"{where}/throttling/rateLimit": "1", f"{where}/throttling/burstLimit": "1"}
    change_stage(api, api_id, **limits, **{f"{where}/metrics/enabled": "true"})
    assert [ask(f"{url}/orders/7")[0] for _ in range(2)] == [200, 429]
    cloud.advance(60)
    now = float(cloud.control("clock")["now"])

    def total(metric: str, **dimensions: str) -> float:
        named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        period = {"StartTime": now - 600, "EndTime": now + 60, "Period": 3600}
        question = {"Namespace": "AWS/ApiGateway", "MetricName": metric, "Dimensions": named, "Statistics": ["Sum"]}
        found = cloud.client("cloudwatch").get_metric_statistics(**question, **period)["Datapoints"]
        return float(sum(one["Sum"] for one in found))

    assert total("Count", ApiName="numbered") == 2
    assert total("4XXError", ApiName="numbered", Stage="prod") == 1
    assert total("Count", ApiName="numbered", Method="GET", Resource="/orders/{id}", Stage="prod") == 2


def test_large_answers_are_compressed_for_who_wants_it(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    api_id, _ = numbered(api)
    operation = {"op": "replace", "path": "/minimumCompressionSize", "value": "1000"}
    api.update_rest_api(restApiId=api_id, patchOperations=[operation])
    url = deployed(cloud, api, api_id)
    _, headers, body = ask(f"{url}/orders/7", accept_encoding="br, gzip")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body).endswith(b"xxx")
    assert "content-encoding" not in ask(f"{url}/orders/7")[1]


def test_an_authorizer_names_the_api_key(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    code = (
        "def handler(event, context):\n"
        "    allow = {'Action': 'execute-api:Invoke', 'Effect': 'Allow', 'Resource': '*'}\n"
        "    return {'principalId': 'me', 'usageIdentifierKey': event['authorizationToken'],\n"
        "            'policyDocument': {'Version': '2012-10-17', 'Statement': [allow]}}\n"
    )
    arn = function(cloud, "guard", code)
    made = api.create_rest_api(name="keys", apiKeySource="AUTHORIZER")
    api_id, root = made["id"], made["rootResourceId"]
    guard = api.create_authorizer(
        restApiId=api_id,
        name="guard",
        type="TOKEN",
        authorizerUri=uri(arn),
        identitySource="method.request.header.Authorization",
        authorizerResultTtlInSeconds=0,
    )
    mock(api, api_id, root, "GET", apiKeyRequired=True)
    where = {"restApiId": api_id, "resourceId": root, "httpMethod": "GET"}
    operations = [
        {"op": "replace", "path": "/authorizationType", "value": "CUSTOM"},
        {"op": "replace", "path": "/authorizerId", "value": guard["id"]},
    ]
    api.update_method(**where, patchOperations=operations)
    url = deployed(cloud, api, api_id)
    key = api.create_api_key(name="client", enabled=True, value="k" * 24)
    plan = api.create_usage_plan(name="plan", apiStages=[{"apiId": api_id, "stage": "prod"}])
    api.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
    assert ask(url, authorization="k" * 24)[0] == 200
    assert ask(url, authorization="another", x_api_key="k" * 24)[0] == 403
    with pytest.raises(ClientError, match="COGNITO_USER_POOLS"):
        api.update_method(**where, patchOperations=[{**operations[0], "value": "COGNITO_USER_POOLS"}])


def test_a_resource_policy_comes_back_as_aws_gives_it(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    statement = {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made = api.create_rest_api(name="open", policy=policy)
    assert json.loads(json.loads(f'"{made["policy"]}"')) == json.loads(policy)
    assert api.get_rest_api(restApiId=made["id"])["policy"] == made["policy"]
    with pytest.raises(api.exceptions.BadRequestException, match="Invalid policy document"):
        api.create_rest_api(name="odd", policy="no policy")


def test_a_stage_logs_what_becomes_of_requests(cloud: LocalCloud) -> None:
    api, logs = cloud.client("apigateway"), cloud.client("logs")
    api_id, _ = numbered(api)
    url = deployed(cloud, api, api_id)
    assert ask(f"{url}/orders/7")[0] == 200
    change_stage(api, api_id, **{"/*/*/logging/loglevel": "INFO", "/*/*/logging/dataTrace": "true"})
    assert ask(f"{url}/orders/7", authorization="Bearer secret-token")[0] == 200
    group = f"API-Gateway-Execution-Logs_{api_id}/prod"
    eventually(lambda: logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"])
    events = eventually(lambda: logs.filter_log_events(logGroupName=group)["events"])
    lines = [event["message"] for event in events]
    assert lines[-1].endswith("Method completed with status: 200")
    assert any("HTTP Method: GET, Resource Path: /orders/{id}" in line for line in lines)
    assert len([line for line in lines if "Starting execution" in line]) == 1
    assert not any("Bearer" in line for line in lines)


def test_a_usage_plan_has_rates_of_methods(cloud: LocalCloud) -> None:
    api = cloud.client("apigateway")
    made = api.create_rest_api(name="rates")
    api_id, root = made["id"], made["rootResourceId"]
    orders = api.create_resource(restApiId=api_id, parentId=root, pathPart="orders")["id"]
    for verb in ("GET", "PUT"):
        mock(api, api_id, orders, verb, apiKeyRequired=True)
    url = deployed(cloud, api, api_id)
    key = api.create_api_key(name="client", enabled=True)
    slow = {"/orders/GET": {"rateLimit": 1.0, "burstLimit": 1}}
    stages = [{"apiId": api_id, "stage": "prod", "throttle": slow}]
    plan = api.create_usage_plan(name="plan", apiStages=stages)["id"]
    api.create_usage_plan_key(usagePlanId=plan, keyId=key["id"], keyType="API_KEY")

    def ask_for(verb: str) -> int:
        return ask(f"{url}/orders", verb, x_api_key=key["value"], content_type="application/json")[0]

    assert [ask_for("GET"), ask_for("GET"), ask_for("PUT"), ask_for("PUT")] == [200, 429, 200, 200]
    path = f"/apiStages/{api_id}:prod/throttle/~1orders/GET/burstLimit"
    api.update_usage_plan(usagePlanId=plan, patchOperations=[{"op": "replace", "path": path, "value": "2"}])
    assert api.get_usage_plan(usagePlanId=plan)["apiStages"][0]["throttle"]["/orders/GET"]["burstLimit"] == 2
    cloud.advance(60)
    assert [ask_for("GET"), ask_for("GET"), ask_for("GET")] == [200, 200, 429]
    trust = {"truststoreUri": "s3://bucket/trust.pem"}
    with pytest.raises(ClientError, match="mutualTlsAuthentication"):
        api.create_domain_name(domainName="api.example.com", mutualTlsAuthentication=trust)


def test_what_an_api_cannot_have_is_refused(cloud: LocalCloud) -> None:
    apis = cloud.client("apigateway")

    def refused(call: Any, **parameters: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            call(**parameters)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    api = apis.create_rest_api(name="shop", endpointConfiguration={"types": ["PRIVATE"]})
    assert api["endpointConfiguration"] == {"types": ["PRIVATE"], "ipAddressType": "dualstack"}
    assert "tags" not in api
    several = {"types": ["EDGE", "REGIONAL"]}
    assert refused(apis.create_rest_api, name="two", endpointConfiguration=several) == (
        "BadRequestException",
        "Cannot create an api with multiple Endpoint Types.",
    )
    place: dict[str, str] = {"restApiId": api["id"]}
    root = api["rootResourceId"]
    orders = apis.create_resource(**place, parentId=root, pathPart="{order}")["id"]
    assert refused(apis.create_resource, **place, parentId=root, pathPart="{proxy+}") == (
        "BadRequestException",
        "A sibling ({order}) of this resource already has a variable path part -- only one is allowed",
    )
    below = apis.create_resource(**place, parentId=orders, pathPart="lines")["id"]
    move = [{"op": "replace", "path": "/parentId", "value": below}]
    assert refused(apis.update_resource, **place, resourceId=orders, patchOperations=move) == (
        "BadRequestException",
        "Resources cannot be cyclical.",
    )
    method: dict[str, Any] = {**place, "resourceId": below, "httpMethod": "GET"}
    assert refused(apis.put_method, **method, authorizationType="CUSTOM", authorizerId="none")[0] == (
        "BadRequestException"
    )
    apis.put_method(**method, authorizationType="NONE", requestModels={"application/json": "Error"})
    assert refused(apis.delete_model, **place, modelName="Error") == (
        "ConflictException",
        "Cannot delete model 'Error', is referenced in method request: /{order}/lines/GET",
    )
    wrong = refused(apis.put_method_response, **method, statusCode="wrong")
    assert wrong[0] == "ValidationException"


def test_gateway_responses_have_defaults(cloud: LocalCloud) -> None:
    apis = cloud.client("apigateway")
    place = {"restApiId": apis.create_rest_api(name="shop")["id"]}
    listed = {one["responseType"]: one for one in apis.get_gateway_responses(**place)["items"]}
    assert len(listed) == 21
    assert listed["THROTTLED"]["statusCode"] == "429"
    assert listed["THROTTLED"]["responseTemplates"] == {"application/json": '{"message":$context.error.messageString}'}
    changed = apis.update_gateway_response(
        **place,
        responseType="THROTTLED",
        patchOperations=[{"op": "replace", "path": "/statusCode", "value": "503"}],
    )
    assert (changed["statusCode"], changed["defaultResponse"]) == ("503", False)
    apis.delete_gateway_response(**place, responseType="THROTTLED")
    assert apis.get_gateway_response(**place, responseType="THROTTLED")["statusCode"] == "429"
    with pytest.raises(ClientError, match="Gateway response type not defined on api"):
        apis.delete_gateway_response(**place, responseType="THROTTLED")


def test_a_canary_is_promoted(cloud: LocalCloud) -> None:
    apis = cloud.client("apigateway")
    api = apis.create_rest_api(name="shop")
    place = {"restApiId": api["id"]}
    method = {**place, "resourceId": api["rootResourceId"], "httpMethod": "GET"}
    apis.put_method(**method, authorizationType="NONE")
    apis.put_integration(**method, type="MOCK")
    canary: dict[str, Any] = {"percentTraffic": 50, "stageVariableOverrides": {"color": "blue"}}
    with pytest.raises(ClientError, match="Stage live must already be created"):
        apis.create_deployment(**place, stageName="live", canarySettings=canary)
    apis.create_deployment(**place, stageName="live", variables={"color": "red", "size": "1"})
    promotion = [
        {"op": "copy", "from": "/canarySettings/deploymentId", "path": "/deploymentId"},
        {"op": "copy", "from": "/canarySettings/stageVariableOverrides", "path": "/variables"},
        {"op": "remove", "path": "/canarySettings"},
    ]
    with pytest.raises(ClientError, match="Promotion not available"):
        apis.update_stage(**place, stageName="live", patchOperations=promotion)
    new = apis.create_deployment(**place, stageName="live", canarySettings=canary)["id"]
    promoted = apis.update_stage(**place, stageName="live", patchOperations=promotion)
    assert promoted["deploymentId"] == new
    assert promoted["variables"] == {"color": "blue", "size": "1"}
    assert "canarySettings" not in promoted
