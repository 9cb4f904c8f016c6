"""HTTP APIs: routes, stages and deployments, CORS, proxied servers, functions in both payload formats."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually


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


def function(cloud: LocalCloud, name: str, source: str, **settings: Any) -> str:
    """A Python function; returns its ARN."""
    functions = cloud.client("lambda")
    made = functions.create_function(
        FunctionName=name,
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        **{"Runtime": "python3.12", "Code": {"ZipFile": archive(source)}, **settings},
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


@pytest.fixture
def issuer() -> Iterator[tuple[str, Callable[..., str]]]:
    """An OpenID provider on a port of its own, and what makes tokens of it."""
    import base64

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    key = generate_private_key(65537, 2048)

    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            numbers = key.public_key().public_numbers()
            jwk = {"kid": "k", "kty": "RSA", "e": text(b"\1\0\1"), "n": text(numbers.n.to_bytes(256))}
            keys = {"keys": [jwk]}
            found = keys if self.path == "/keys" else {"jwks_uri": f"{url}/keys"}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def token(**claims: Any) -> str:
        whole = {"iss": url, "aud": "shop", "sub": "me", "exp": time.time() + 3600, **claims}
        signed = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k"}, whole))
        return f"{signed}.{text(key.sign(signed.encode(), PKCS1v15(), hashes.SHA256()))}"

    yield url, token
    server.shutdown()
    server.server_close()


def test_tokens_let_in_by_their_issuers_keys(cloud: LocalCloud, issuer: tuple[str, Callable[..., str]]) -> None:
    url, token = issuer
    api = cloud.client("apigatewayv2")
    arn = function(cloud, "who", "def handler(e, c):\n    return e['requestContext']['authorizer']['jwt']")
    made = api.create_api(Name="tokens", ProtocolType="HTTP", Target=arn)
    api_id = made["ApiId"]
    authorizer = api.create_authorizer(
        ApiId=api_id,
        Name="tokens",
        AuthorizerType="JWT",
        IdentitySource=["$request.header.Authorization"],
        JwtConfiguration={"Issuer": url, "Audience": ["shop"]},
    )["AuthorizerId"]
    integration = api.get_integrations(ApiId=api_id)["Items"][0]["IntegrationId"]
    guarded = {"AuthorizationType": "JWT", "AuthorizerId": authorizer, "Target": f"integrations/{integration}"}
    api.create_route(ApiId=api_id, RouteKey="GET /me", **guarded)
    api.create_route(ApiId=api_id, RouteKey="GET /admin", AuthorizationScopes=["admin"], **guarded)
    door = f"{cloud.endpoint}/_cloudlet/execute-api/{api_id}"

    def get(path: str, given: str) -> tuple[int, dict[str, str], bytes]:
        return ask(f"{door}{path}", authorization=given)

    status, _, body = get("/me", f"Bearer {token(groups=['a', 'b'], n=1)}")
    assert status == 200, body
    told = json.loads(body)
    assert (told["claims"]["sub"], told["claims"]["groups"], told["claims"]["n"]) == ("me", "[a b]", "1")
    assert told["scopes"] is None
    assert ask(f"{door}/me")[0] == 401
    status, headers, _ = get("/me", token(exp=1))
    assert status == 401
    assert "token has expired" in headers["www-authenticate"]
    good = token()
    assert get("/me", good[:-8] + "AAAAAAAA")[0] == 401
    assert get("/me", token(aud="other"))[0] == 401
    assert get("/me", token(iss="http://other"))[0] == 401
    assert get("/admin", token(scope="read"))[0] == 403
    assert json.loads(get("/admin", token(scope="read admin"))[2])["scopes"] == ["admin"]


def test_an_authorizers_word_is_remembered_and_requests_are_logged(cloud: LocalCloud) -> None:
    api, logs = cloud.client("apigatewayv2"), cloud.client("logs")
    source = """
calls = []
def handler(event, context):
    calls.append(1)
    return {"isAuthorized": True, "context": {"n": len(calls)}}
"""
    guard = function(cloud, "guard", source)
    arn = function(cloud, "says", "def handler(e, c):\n    return e['requestContext']['authorizer']['lambda']")
    api_id = api.create_api(Name="remembers", ProtocolType="HTTP", Target=arn)["ApiId"]
    authorizer = api.create_authorizer(
        ApiId=api_id,
        Name="guard",
        AuthorizerType="REQUEST",
        AuthorizerUri=f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{guard}/invocations",
        AuthorizerPayloadFormatVersion="2.0",
        EnableSimpleResponses=True,
        IdentitySource=["$request.header.x-key"],
        AuthorizerResultTtlInSeconds=60,
    )["AuthorizerId"]
    integration = api.get_integrations(ApiId=api_id)["Items"][0]["IntegrationId"]
    api.create_route(
        ApiId=api_id,
        RouteKey="GET /n",
        AuthorizationType="CUSTOM",
        AuthorizerId=authorizer,
        Target=f"integrations/{integration}",
    )
    api.update_integration(
        ApiId=api_id,
        IntegrationId=integration,
        ResponseParameters={"200": {"append:header.x-from": "$context.apiId", "overwrite:statuscode": "201"}},
    )
    logs.create_log_group(logGroupName="access")
    group = "arn:aws:logs:us-east-1:000000000000:log-group:access:*"
    form = '{"route": "$context.routeKey", "status": $context.status, "n": "$context.authorizer.n"}'
    api.update_stage(ApiId=api_id, StageName="$default", AccessLogSettings={"DestinationArn": group, "Format": form})
    door = f"{cloud.endpoint}/_cloudlet/execute-api/{api_id}"
    status, headers, body = ask(f"{door}/n", **{"x-key": "a"})
    assert (status, headers["x-from"], json.loads(body)) == (201, api_id, {"n": 1})
    assert json.loads(ask(f"{door}/n", **{"x-key": "a"})[2]) == {"n": 1}
    assert json.loads(ask(f"{door}/n", **{"x-key": "b"})[2]) == {"n": 2}
    cloud.advance(61)
    assert json.loads(ask(f"{door}/n", **{"x-key": "a"})[2]) == {"n": 3}
    events = eventually(lambda: len(told := logs.filter_log_events(logGroupName="access")["events"]) == 4 and told)
    assert sorted(json.loads(event["message"])["n"] for event in events) == ["1", "1", "2", "3"]
    assert json.loads(events[0]["message"])["route"] == "GET /n"


def test_names_of_the_users_own_lead_to_apis(cloud: LocalCloud) -> None:
    api, rest = cloud.client("apigatewayv2"), cloud.client("apigateway")
    arn = function(cloud, "where", "def handler(e, c):\n    return e['rawPath']")
    api_id = api.create_api(Name="shop", ProtocolType="HTTP", Target=arn)["ApiId"]
    certificate = {"CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/x", "EndpointType": "REGIONAL"}
    api.create_domain_name(DomainName="api.shop.test", DomainNameConfigurations=[certificate])
    api.create_api_mapping(DomainName="api.shop.test", ApiId=api_id, Stage="$default", ApiMappingKey="v1/orders")

    assert ask(f"{cloud.endpoint}/v1/orders/7", host="api.shop.test")[2] == b"/7"
    assert ask(f"{cloud.endpoint}/v1/other", host="api.shop.test")[0] == 403
    api.create_api_mapping(DomainName="api.shop.test", ApiId=api_id, Stage="$default")
    assert ask(f"{cloud.endpoint}/v1/other", host="api.shop.test")[2] == b"/v1/other"

    made = rest.create_rest_api(name="old")
    where = {"restApiId": made["id"], "resourceId": made["rootResourceId"], "httpMethod": "GET"}
    rest.put_method(**where, authorizationType="NONE")
    rest.put_integration(**where, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    rest.put_method_response(**where, statusCode="200")
    answer = {"application/json": '"$context.stage"'}
    rest.put_integration_response(**where, statusCode="200", responseTemplates=answer)
    rest.create_deployment(restApiId=made["id"], stageName="prod")
    rest.create_domain_name(domainName="old.shop.test")
    rest.create_base_path_mapping(domainName="old.shop.test", basePath="a", restApiId=made["id"], stage="prod")
    assert ask(f"{cloud.endpoint}/a", host="old.shop.test")[2] == b'"prod"'
    assert ask(f"{cloud.endpoint}/b", host="old.shop.test")[0] == 403


def test_a_stage_holds_back_what_is_too_much(cloud: LocalCloud, backend: str) -> None:
    api = cloud.client("apigatewayv2")
    made = api.create_api(Name="held", ProtocolType="HTTP", Target=backend)
    settings = {"ThrottlingRateLimit": 1.0, "ThrottlingBurstLimit": 2, "DetailedMetricsEnabled": True}
    api.update_stage(ApiId=made["ApiId"], StageName="$default", DefaultRouteSettings=settings)
    log = {"DestinationArn": "arn:aws:firehose:us-east-1:000000000000:deliverystream/x", "Format": "$context.status"}
    with pytest.raises(ClientError, match="Firehose"):
        api.update_stage(ApiId=made["ApiId"], StageName="$default", AccessLogSettings=log)
    url = f"{cloud.endpoint}/_cloudlet/execute-api/{made['ApiId']}"
    assert [ask(f"{url}/x")[0] for _ in range(3)] == [200, 200, 429]
    cloud.advance(60)
    assert ask(f"{url}/x")[0] == 200
    cloud.advance(60)
    now = float(cloud.control("clock")["now"])
    found = cloud.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/ApiGateway",
        MetricName="4xx",
        Dimensions=[{"Name": "ApiId", "Value": made["ApiId"]}],
        StartTime=now - 600,
        EndTime=now + 60,
        Period=3600,
        Statistics=["Sum", "SampleCount"],
    )["Datapoints"]
    assert [(one["Sum"], one["SampleCount"]) for one in found] == [(1.0, 4.0)]
