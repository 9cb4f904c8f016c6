"""WebSocket APIs through a real client: connections, routes, answers, and what backends send."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError
from test_apigatewayv2 import function

from cloudlet.testing import LocalCloud

SOURCE = """
import json, os, boto3
def handler(event, context):
    told = event["requestContext"]
    if told["eventType"] == "CONNECT":
        who = (event.get("queryStringParameters") or {}).get("who")
        return {"statusCode": 200 if who else 401, "body": "who are you?"}
    if told["eventType"] == "DISCONNECT":
        boto3.client("sqs").send_message(QueueUrl=os.environ["GONE"], MessageBody=json.dumps(told))
        return {"statusCode": 200}
    if told["routeKey"] == "shout":
        url = "https://%s/%s" % (told["domainName"], told["stage"])
        if json.loads(event["body"]).get("by") == "aws":
            url = "https://%s.execute-api.us-east-1.amazonaws.com/%s" % (told["apiId"], told["stage"])
        manage = boto3.client("apigatewaymanagementapi", endpoint_url=url)
        body = json.loads(event["body"])
        manage.post_to_connection(ConnectionId=told["connectionId"], Data=body["text"].upper().encode())
        return {"statusCode": 200}
    if told["routeKey"] == "fail":
        raise ValueError("as asked")
    return {"statusCode": 200, "body": told["routeKey"] + ":" + event["body"]}
"""


def chat(cloud: LocalCloud, **environment: str) -> str:
    """An API with a function behind all of its routes; returns its id."""
    api = cloud.client("apigatewayv2")
    arn = function(cloud, "chat", SOURCE, Environment={"Variables": environment}, Timeout=10)
    with pytest.raises(api.exceptions.BadRequestException, match="RouteSelectionExpression"):
        api.create_api(Name="chat", ProtocolType="WEBSOCKET")
    made = api.create_api(Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    api_id: str = made["ApiId"]
    assert made["ApiEndpoint"].startswith("ws://")
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"
    integration = api.create_integration(ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=uri)
    target = f"integrations/{integration['IntegrationId']}"
    for key in ("$connect", "$disconnect", "$default", "shout", "quiet", "fail"):
        route = api.create_route(ApiId=api_id, RouteKey=key, Target=target)
        if key in ("$default", "fail"):
            api.create_route_response(ApiId=api_id, RouteId=route["RouteId"], RouteResponseKey="$default")
    deployment = api.create_deployment(ApiId=api_id)["DeploymentId"]
    api.create_stage(ApiId=api_id, StageName="prod", DeploymentId=deployment)
    return api_id


def test_messages_go_both_ways(cloud: LocalCloud) -> None:
    sqs = cloud.client("sqs")
    gone = sqs.create_queue(QueueName="gone")["QueueUrl"]
    api_id = chat(cloud, GONE=gone)
    door = f"{cloud.endpoint}/_cloudlet/execute-api/{api_id}/prod"
    manage = cloud.client("apigatewaymanagementapi")

    async def talk() -> str:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(door)
            assert refused.value.status == 401
            assert (await session.get(door)).status == 426
            async with session.ws_connect(f"{door}?who=me") as socket:
                await socket.send_str("no JSON")
                assert await socket.receive_str(timeout=10) == "$default:no JSON"
                await socket.send_json({"action": "quiet"})
                await socket.send_json({"action": "shout", "text": "hello"})
                assert await socket.receive_str(timeout=10) == "HELLO"
                await socket.send_json({"action": "shout", "text": "you", "by": "aws"})
                assert await socket.receive_str(timeout=10) == "YOU"
                await socket.send_json({"action": "fail"})
                told = json.loads(await socket.receive_str(timeout=10))
                assert told["message"] == "Internal server error"
                id: str = told["connectionId"]
                call: Any = asyncio.to_thread
                await call(manage.post_to_connection, ConnectionId=id, Data=b"from behind")
                assert await socket.receive_str(timeout=10) == "from behind"
                found = await call(manage.get_connection, ConnectionId=id)
                assert found["Identity"]["SourceIp"] == "127.0.0.1"
                await socket.send_str("x" * 100_000)
                assert len(await socket.receive_str(timeout=10)) == 100_009
                await call(manage.delete_connection, ConnectionId=id)
                assert (await socket.receive(timeout=10)).type == aiohttp.WSMsgType.CLOSE
                return id

    id = asyncio.run(talk())
    (message,) = sqs.receive_message(QueueUrl=gone, WaitTimeSeconds=10)["Messages"]
    told = json.loads(message["Body"])
    assert (told["connectionId"], told["disconnectStatusCode"], told["routeKey"]) == (id, 1000, "$disconnect")
    with pytest.raises(manage.exceptions.GoneException):
        manage.post_to_connection(ConnectionId=id, Data=b"too late")


AUTHORIZER = """
def handler(event, context):
    if event["headers"].get("Token") == "broken":
        raise Exception("Unauthorized")
    assert event["type"] == "REQUEST" and event["requestContext"]["eventType"] == "CONNECT", event
    effect = "Allow" if event["queryStringParameters"]["who"] == "me" else "Deny"
    statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": event["methodArn"]}
    return {"principalId": "ada", "policyDocument": {"Statement": [statement]}, "context": {"room": "7"}}
"""
ROOM = """
def handler(event, context):
    told = event["requestContext"]["authorizer"]
    return {"statusCode": 200, "body": told["principalId"] + " in " + told["room"]}
"""


def test_an_authorizer_decides_who_connects(cloud: LocalCloud) -> None:
    api = cloud.client("apigatewayv2")
    uri = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{}/invocations"
    made = api.create_api(Name="rooms", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    api_id = made["ApiId"]
    room = uri.format(function(cloud, "room", ROOM))
    integration = api.create_integration(ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=room)
    target = f"integrations/{integration['IntegrationId']}"
    authorizer = api.create_authorizer(
        ApiId=api_id,
        Name="who",
        AuthorizerType="REQUEST",
        AuthorizerUri=uri.format(function(cloud, "authorizer", AUTHORIZER)),
        IdentitySource=["route.request.header.Token"],
    )
    access = {"AuthorizationType": "CUSTOM", "AuthorizerId": authorizer["AuthorizerId"]}
    api.create_route(ApiId=api_id, RouteKey="$connect", **access)
    route = api.create_route(ApiId=api_id, RouteKey="$default", Target=target)
    api.create_route_response(ApiId=api_id, RouteId=route["RouteId"], RouteResponseKey="$default")
    api.create_stage(ApiId=api_id, StageName="prod", AutoDeploy=True)
    door = f"{cloud.endpoint}/_cloudlet/execute-api/{api_id}/prod"

    async def talk() -> None:
        async with aiohttp.ClientSession() as session:
            for who, headers, status in (
                ("me", {}, 401),
                ("me", {"Token": "broken"}, 401),
                ("you", {"Token": "t"}, 403),
            ):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(f"{door}?who={who}", headers=headers)
                assert refused.value.status == status
            async with session.ws_connect(f"{door}?who=me", headers={"Token": "t"}) as socket:
                await socket.send_str("hello")
                assert await socket.receive_str(timeout=10) == "ada in 7"

    asyncio.run(talk())


def test_connections_end_when_nobody_speaks_and_with_the_cloud(cloud: LocalCloud) -> None:
    gone = cloud.client("sqs").create_queue(QueueName="gone")["QueueUrl"]
    door = f"{cloud.endpoint}/_cloudlet/execute-api/{chat(cloud, GONE=gone)}/prod?who=me"

    async def wait() -> None:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(door, autoclose=False) as socket:
                await asyncio.to_thread(cloud.advance, 601)
                end = await socket.receive(timeout=10)
                assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            async with session.ws_connect(door, autoclose=False) as socket:
                await socket.send_bytes(b"y" * 140_000)
                assert (await socket.receive(timeout=10)).data == 1009
            async with session.ws_connect(door) as socket:
                await asyncio.to_thread(cloud.stop)
                assert (await socket.receive(timeout=10)).type == aiohttp.WSMsgType.CLOSE

    asyncio.run(wait())
    cloud.start()


def test_a_request_for_another_protocol_is_answered_as_it_is(cloud: LocalCloud) -> None:
    """Java's HTTP client asks for HTTP/2 with its first request."""
    import socket

    host, port = cloud.endpoint.removeprefix("http://").rsplit(":", 1)
    ask = "GET /_cloudlet/health HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        for _ in range(2):
            connection.sendall(ask.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


NODE = """
const https = require("https");
const scope = process.env.AWS_ACCESS_KEY_ID + "/20260101/us-east-1/execute-api/aws4_request";
const headers = { authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=host, Signature=0` };
function post(url, text) {
  return new Promise((resolve, reject) => {
    const asked = https.request(url, { method: "POST", headers }, (answer) => resolve(answer.resume().statusCode));
    asked.on("error", reject);
    asked.end(text);
  });
}
exports.handler = async (event) => {
  const { domainName, stage, connectionId, apiId } = event.requestContext;
  const where = `/${stage}/@connections/${encodeURIComponent(connectionId)}`;
  const aws = `https://${apiId}.execute-api.us-east-1.amazonaws.com${where}`;
  await post(`https://${domainName}${where}`, "one");
  await post(new URL(aws), "two");
  await fetch(`https://${domainName}${where}`, { method: "POST", headers, body: "three" });
  await fetch(aws, { method: "POST", headers, body: "four" });
  return { statusCode: 200 };
};
"""


def test_node_sends_to_connections(cloud: LocalCloud) -> None:
    """At https, as AWS's examples do it."""
    api = cloud.client("apigatewayv2")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr("app.js", NODE)
    arn = function(cloud, "node", "", Runtime="nodejs22.x", Code={"ZipFile": file.getvalue()}, Timeout=10)
    made = api.create_api(Name="n", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"
    integration = api.create_integration(ApiId=made["ApiId"], IntegrationType="AWS_PROXY", IntegrationUri=uri)
    target = f"integrations/{integration['IntegrationId']}"
    api.create_route(ApiId=made["ApiId"], RouteKey="$default", Target=target)
    api.create_stage(ApiId=made["ApiId"], StageName="prod", AutoDeploy=True)

    async def talk() -> list[str]:
        async with aiohttp.ClientSession() as session:
            door = f"{cloud.endpoint}/_cloudlet/execute-api/{made['ApiId']}/prod"
            async with session.ws_connect(door) as socket:
                await socket.send_str("go")
                return [await socket.receive_str(timeout=10) for _ in range(4)]

    assert asyncio.run(talk()) == ["one", "two", "three", "four"]


def test_what_would_not_be_checked_is_refused(cloud: LocalCloud) -> None:
    api = cloud.client("apigatewayv2")
    made = api.create_api(Name="s", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    with pytest.raises(ClientError, match="ApiKeyRequired"):
        api.create_route(ApiId=made["ApiId"], RouteKey="$connect", ApiKeyRequired=True)
    with pytest.raises(ClientError, match="RequestModels"):
        api.create_route(ApiId=made["ApiId"], RouteKey="send", RequestModels={"send": "model"})
    assert api.get_routes(ApiId=made["ApiId"])["Items"] == []


def test_routes_hold_their_rates(cloud: LocalCloud) -> None:
    """Who connects or speaks too often hears so, and his connection stays."""
    api = cloud.client("apigatewayv2")
    made = api.create_api(Name="slow", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    integration = api.create_integration(ApiId=made["ApiId"], IntegrationType="MOCK")["IntegrationId"]
    for key in ("$connect", "$default"):
        api.create_route(ApiId=made["ApiId"], RouteKey=key, Target=f"integrations/{integration}")
    deployment = api.create_deployment(ApiId=made["ApiId"])["DeploymentId"]
    once = {"ThrottlingRateLimit": 0.001, "ThrottlingBurstLimit": 1}
    api.create_stage(
        ApiId=made["ApiId"],
        StageName="prod",
        DeploymentId=deployment,
        RouteSettings={"$connect": once, "$default": once},
    )

    async def talk() -> None:
        door = f"{cloud.endpoint}/_cloudlet/execute-api/{made['ApiId']}/prod"
        async with aiohttp.ClientSession() as session, session.ws_connect(door) as socket:
            await socket.send_str("one")
            await socket.send_str("two")
            assert (await socket.receive_json(timeout=10))["message"] == "Too Many Requests"
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(door)
            assert refused.value.status == 429

    asyncio.run(talk())
