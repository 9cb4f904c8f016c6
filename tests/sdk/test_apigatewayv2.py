"""HTTP APIs: routes, stages and deployments, CORS, proxied servers, functions in both payload formats."""

from __future__ import annotations

import io
import json
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cloudlet.testing import LocalCloud


def ask(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One HTTP request; errors are answers too."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=body, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


@pytest.fixture
def backend() -> Iterator[str]:
    """An HTTP server that tells what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            told = json.dumps(
                {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body.decode()}
            ).encode()
            self.send_response(418 if "teapot" in self.path else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(told)))
            self.send_header("x-backend", "yes")
            self.end_headers()
            self.wfile.write(told)

        do_POST = do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def archive(source: str) -> bytes:
    """A function's zip with one file, ``app.py``."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("app.py", source)
    return packed.getvalue()


def function(cloud: LocalCloud, name: str, source: str) -> str:
    """A Python function; returns its ARN."""
    functions = cloud.client("lambda")
    made = functions.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": archive(source)},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name)
    return str(made["FunctionArn"])


def test_routes_stages_and_a_proxied_server(cloud: LocalCloud, backend: str) -> None:
    api = cloud.client("apigatewayv2")
    made = api.create_api(Name="shop", ProtocolType="HTTP", Tags={"team": "a"})
    api_id, url = made["ApiId"], made["ApiEndpoint"]
    proxy = api.create_integration(
        ApiId=api_id,
        IntegrationType="HTTP_PROXY",
        IntegrationMethod="ANY",
        IntegrationUri=backend + "/{proxy}",
        PayloadFormatVersion="1.0",
        RequestParameters={"append:header.x-stage": "$context.stage"},
    )["IntegrationId"]
    fixed = api.create_integration(
        ApiId=api_id,
        IntegrationType="HTTP_PROXY",
        IntegrationMethod="GET",
        IntegrationUri=backend + "/fixed",
        PayloadFormatVersion="1.0",
    )["IntegrationId"]
    api.create_route(ApiId=api_id, RouteKey="ANY /things/{proxy+}", Target=f"integrations/{proxy}")
    exact = api.create_route(ApiId=api_id, RouteKey="GET /things/special", Target=f"integrations/{fixed}")
    with pytest.raises(api.exceptions.ConflictException):
        api.create_route(ApiId=api_id, RouteKey="GET /things/special", Target=f"integrations/{fixed}")
    with pytest.raises(api.exceptions.BadRequestException):
        api.create_route(ApiId=api_id, RouteKey="FETCH nowhere")
    assert ask(f"{url}/things/x")[0] == 404, "nothing answers before there is a stage"

    api.create_stage(ApiId=api_id, StageName="$default", AutoDeploy=True)
    status, headers, body = ask(f"{url}/things/a/b?x=1&x=2", "POST", b"hello", content_type="text/plain")
    told = json.loads(body)
    assert (status, told["method"], told["path"], told["body"]) == (200, "POST", "/a/b?x=1&x=2", "hello")
    assert headers["x-backend"] == "yes"
    assert {name.lower(): value for name, value in told["headers"].items()}["x-stage"] == "$default"
    assert json.loads(ask(f"{url}/things/special")[2])["path"] == "/fixed", "the exact route wins"
    assert json.loads(ask(f"{url}/things/special", "PUT", b"")[2])["path"] == "/special"
    assert ask(f"{url}/things/teapot")[0] == 418
    assert ask(f"{url}/other")[0] == 404

    # A stage without auto-deploy answers by its deployment, whatever has changed since.
    deployment = api.create_deployment(ApiId=api_id)["DeploymentId"]
    api.create_stage(ApiId=api_id, StageName="prod", DeploymentId=deployment)
    api.delete_route(ApiId=api_id, RouteId=exact["RouteId"])
    assert json.loads(ask(f"{url}/prod/things/special")[2])["path"] == "/fixed"
    assert json.loads(ask(f"{url}/things/special")[2])["path"] == "/special"

    assert api.get_tags(ResourceArn=f"arn:aws:apigateway:us-east-1::/apis/{api_id}")["Tags"] == {"team": "a"}
    cloud.kill()
    cloud.start()
    assert json.loads(ask(f"{url}/prod/things/special")[2])["path"] == "/fixed", "it is all there after a kill"
    api.delete_api(ApiId=api_id)
    assert ask(f"{url}/prod/things/special")[0] == 404


def test_cors_is_answered_by_the_api(cloud: LocalCloud, backend: str) -> None:
    api = cloud.client("apigatewayv2")
    bad = {"AllowOrigins": ["*"], "AllowCredentials": True}
    with pytest.raises(api.exceptions.BadRequestException):
        api.create_api(Name="x", ProtocolType="HTTP", CorsConfiguration=bad)
    cors = {"AllowOrigins": ["https://shop.example"], "AllowMethods": ["GET"], "AllowHeaders": ["x-a"], "MaxAge": 60}
    made = api.create_api(Name="x", ProtocolType="HTTP", Target=backend, CorsConfiguration=cors)
    url = made["ApiEndpoint"]
    status, headers, _ = ask(url + "/", "OPTIONS", origin="https://shop.example", access_control_request_method="GET")
    assert status == 204
    assert headers["access-control-allow-origin"] == "https://shop.example"
    assert headers["access-control-max-age"] == "60"
    _, headers, _ = ask(url + "/", "OPTIONS", origin="https://evil.example", access_control_request_method="GET")
    assert "access-control-allow-origin" not in headers
    status, headers, _ = ask(url + "/x", origin="https://shop.example")
    assert (status, headers["access-control-allow-origin"]) == (200, "https://shop.example")


HANDLER = """
import json
def handler(event, context):
    if event.get("rawPath") == "/plain":
        return {"any": "thing"}
    if event.get("rawPath") == "/cookies":
        return {"statusCode": 201, "cookies": ["a=1", "b=2"], "headers": {"x-own": "1"}, "body": "made"}
    if event.get("rawPath") == "/fails":
        raise ValueError("on purpose")
    return {"statusCode": 200, "body": json.dumps(event)}
"""


def test_functions_behind_an_api(cloud: LocalCloud) -> None:
    api = cloud.client("apigatewayv2")
    arn = function(cloud, "echo", HANDLER)
    made = api.create_api(Name="echo", ProtocolType="HTTP", Target=arn)
    url = made["ApiEndpoint"]
    status, _, body = ask(f"{url}/a%20b?x=1&x=2", "POST", b"\xff\x00", content_type="image/png", cookie="c=1; d=2")
    event = json.loads(body)
    assert status == 200
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/a b")
    assert event["queryStringParameters"] == {"x": "1,2"}
    assert event["cookies"] == ["c=1", "d=2"]
    assert (event["isBase64Encoded"], event["body"]) == (True, "/wA=")
    assert event["requestContext"]["http"]["method"] == "POST"
    assert json.loads(ask(f"{url}/plain")[2]) == {"any": "thing"}
    with urllib.request.urlopen(f"{url}/cookies", timeout=20) as answer:
        assert (answer.status, answer.headers.get_all("set-cookie"), answer.read()) == (201, ["a=1", "b=2"], b"made")
    assert ask(f"{url}/fails")[0] == 500

    older = api.create_integration(
        ApiId=made["ApiId"], IntegrationType="AWS_PROXY", IntegrationUri=arn, PayloadFormatVersion="1.0"
    )
    api.create_route(ApiId=made["ApiId"], RouteKey="GET /v1/{id}", Target=f"integrations/{older['IntegrationId']}")
    event = json.loads(ask(f"{url}/v1/7?q=a&q=b")[2])
    assert (event["version"], event["httpMethod"], event["pathParameters"]) == ("1.0", "GET", {"id": "7"})
    assert event["multiValueQueryStringParameters"] == {"q": ["a", "b"]}
    assert event["queryStringParameters"] == {"q": "b"}


AUTHORIZER = """
def handler(event, context):
    token = event["headers"].get("authorization")
    if token == "boom":
        raise RuntimeError("broken")
    return {"isAuthorized": token == "let me in", "context": {"user": "ada"}}
"""


def test_an_authorizer_decides(cloud: LocalCloud) -> None:
    api = cloud.client("apigatewayv2")
    echo, authorizer = function(cloud, "echo", HANDLER), function(cloud, "authorizer", AUTHORIZER)
    made = api.create_api(Name="guarded", ProtocolType="HTTP")
    api_id = made["ApiId"]
    guard = api.create_authorizer(
        ApiId=api_id,
        AuthorizerType="REQUEST",
        Name="guard",
        AuthorizerUri=f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{authorizer}/invocations",
        AuthorizerPayloadFormatVersion="2.0",
        EnableSimpleResponses=True,
        IdentitySource=["$request.header.Authorization"],
    )["AuthorizerId"]
    target = api.create_integration(
        ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=echo, PayloadFormatVersion="2.0"
    )["IntegrationId"]
    api.create_route(
        ApiId=api_id,
        RouteKey="GET /",
        Target=f"integrations/{target}",
        AuthorizationType="CUSTOM",
        AuthorizerId=guard,
    )
    api.create_stage(ApiId=api_id, StageName="$default", AutoDeploy=True)
    url = made["ApiEndpoint"] + "/"
    assert ask(url)[0] == 401
    assert ask(url, authorization="no")[0] == 403
    assert ask(url, authorization="boom")[0] == 500
    status, _, body = ask(url, authorization="let me in")
    assert (status, json.loads(body)["requestContext"]["authorizer"]) == (200, {"lambda": {"user": "ada"}})


def test_an_api_from_its_definition(cloud: LocalCloud, backend: str) -> None:
    api = cloud.client("apigatewayv2")
    definition = {
        "openapi": "3.0.1",
        "info": {"title": "defined", "version": "1"},
        "x-amazon-apigateway-cors": {"allowOrigins": ["*"]},
        "paths": {
            "/things/{id}": {
                "get": {
                    "x-amazon-apigateway-integration": {
                        "type": "http_proxy",
                        "httpMethod": "GET",
                        "uri": backend + "/thing/{id}",
                        "payloadFormatVersion": "1.0",
                    }
                }
            }
        },
    }
    made = api.import_api(Body=json.dumps(definition))
    api.create_stage(ApiId=made["ApiId"], StageName="$default", AutoDeploy=True)
    assert json.loads(ask(f"{made['ApiEndpoint']}/things/5")[2])["path"] == "/thing/5"
    assert [route["RouteKey"] for route in api.get_routes(ApiId=made["ApiId"])["Items"]] == ["GET /things/{id}"]
    with pytest.raises(api.exceptions.BadRequestException):
        api.import_api(Body="{ this is no document")
    with pytest.raises(Exception, match="JWT"):
        api.create_authorizer(ApiId=made["ApiId"], AuthorizerType="JWT", Name="x", IdentitySource=["$request.header.a"])
