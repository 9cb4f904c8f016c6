"""App Mesh through boto3."""

from __future__ import annotations

import json
from typing import Any

import pytest
from refusals import refused

from cloudlet.testing.local import LocalCloud

ACCOUNT = "000000000000"
PREFIX = f"arn:aws:appmesh:us-east-1:{ACCOUNT}:mesh/shop"


@pytest.fixture
def appmesh(cloud: LocalCloud) -> Any:
    return cloud.client("appmesh")


def listener(port: int = 8080, protocol: str = "http", **more: Any) -> dict[str, Any]:
    return {"portMapping": {"port": port, "protocol": protocol}, **more}


def dns(name: str) -> dict[str, Any]:
    return {"dns": {"hostname": name}}


def http(prefix: str = "/", **weights: int) -> dict[str, Any]:
    targets = [{"virtualNode": name, "weight": weight} for name, weight in weights.items()]
    return {"httpRoute": {"match": {"prefix": prefix}, "action": {"weightedTargets": targets}}}


def test_life_of_a_mesh(cloud: LocalCloud, appmesh: Any) -> None:
    made = appmesh.create_mesh(meshName="shop", clientToken="1", tags=[{"key": "a", "value": "1"}])["mesh"]
    assert made["spec"] == {}
    assert made["status"] == {"status": "ACTIVE"}
    metadata = made["metadata"]
    assert (metadata["arn"], metadata["version"]) == (PREFIX, 1)
    assert (metadata["meshOwner"], metadata["resourceOwner"]) == (ACCOUNT, ACCOUNT)
    # The same request again is the same mesh, another one is a conflict.
    again = appmesh.create_mesh(meshName="shop", clientToken="1", tags=[{"key": "a", "value": "1"}])["mesh"]
    assert again["metadata"] == metadata
    assert refused(appmesh.create_mesh, meshName="shop")[0] == "ConflictException"

    node = {"meshName": "shop", "virtualNodeName": "blue"}
    spec = {"listeners": [listener()], "serviceDiscovery": dns("blue.local")}
    assert appmesh.create_virtual_node(**node, spec=spec)["virtualNode"]["metadata"]["arn"] == (
        f"{PREFIX}/virtualNode/blue"
    )
    spec["logging"] = {"accessLog": {"file": {"path": "/dev/stdout"}}}
    changed = appmesh.update_virtual_node(**node, spec=spec)["virtualNode"]
    assert (changed["metadata"]["version"], changed["spec"]) == (2, spec)

    router = {"meshName": "shop", "virtualRouterName": "colors"}
    appmesh.create_virtual_router(**router, spec={"listeners": [listener(80)]})
    for number in range(5):
        made = appmesh.create_route(**router, routeName=f"r{number}", spec=http(blue=1))["route"]
    assert made["metadata"]["arn"] == f"{PREFIX}/virtualRouter/colors/route/r4"
    pages = appmesh.get_paginator("list_routes").paginate(**router, PaginationConfig={"PageSize": 2})
    assert [[route["routeName"] for route in page["routes"]] for page in pages] == [["r0", "r1"], ["r2", "r3"], ["r4"]]

    service = {"meshName": "shop", "virtualServiceName": "colors.local"}
    provider = {"virtualRouter": {"virtualRouterName": "colors"}}
    appmesh.create_virtual_service(**service, spec={"provider": provider})
    gateway = {"meshName": "shop", "virtualGatewayName": "in"}
    appmesh.create_virtual_gateway(**gateway, spec={"listeners": [listener(8088)]})
    target = {"target": {"virtualService": {"virtualServiceName": "colors.local"}}}
    entry = {"httpRoute": {"match": {"prefix": "/"}, "action": target}}
    made = appmesh.create_gateway_route(**gateway, gatewayRouteName="all", spec=entry)["gatewayRoute"]
    assert made["virtualGatewayName"] == "in"

    arn = made["metadata"]["arn"]
    appmesh.tag_resource(resourceArn=arn, tags=[{"key": "x", "value": "1"}, {"key": "y", "value": "2"}])
    appmesh.untag_resource(resourceArn=arn, tagKeys=["x"])
    assert appmesh.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "y", "value": "2"}]

    # All of it survives a kill; another region is another world.
    cloud.kill()
    cloud.start()
    appmesh = cloud.client("appmesh")
    assert appmesh.describe_virtual_node(**node)["virtualNode"] == changed
    assert cloud.client("appmesh", region="eu-west-1").list_meshes()["meshes"] == []

    # What is needed cannot go.
    def in_use(call: Any, **parameters: Any) -> str:
        code, message = refused(call, **parameters)
        assert code == "ResourceInUseException"
        return message

    assert in_use(appmesh.delete_mesh, meshName="shop") == (
        f"Mesh shop for account {ACCOUNT} has active VirtualNodes, please delete VirtualNodes before deleting the Mesh"
    )
    assert in_use(appmesh.delete_virtual_router, **router) == (
        "VirtualRouter with name colors cannot be deleted because it is a VirtualService provider"
    )
    assert in_use(appmesh.delete_virtual_service, **service) == (
        "VirtualService colors.local is being referenced in the following: GATEWAY_ROUTE: [all]"
    )
    assert "r4" in in_use(appmesh.delete_virtual_node, **node)
    assert "GatewayRoutes" in in_use(appmesh.delete_virtual_gateway, **gateway)

    gone = appmesh.delete_gateway_route(**gateway, gatewayRouteName="all")["gatewayRoute"]
    assert gone["status"] == {"status": "DELETED"}
    appmesh.delete_virtual_gateway(**gateway)
    appmesh.delete_virtual_service(**service)
    for number in range(5):
        appmesh.delete_route(**router, routeName=f"r{number}")
    appmesh.delete_virtual_router(**router)
    appmesh.delete_virtual_node(**node)
    appmesh.delete_mesh(meshName="shop")
    assert refused(appmesh.describe_virtual_node, **node)[0] == "NotFoundException"


def test_what_is_refused(appmesh: Any) -> None:
    node = {"meshName": "shop", "virtualNodeName": "n"}
    assert refused(appmesh.describe_virtual_node, **node)[0] == "NotFoundException"
    appmesh.create_mesh(meshName="shop")
    assert refused(appmesh.describe_virtual_node, **node) == (
        "NotFoundException",
        f"VirtualNode with name n is not present under mesh shop for account {ACCOUNT}",
    )

    def bad(call: Any, **parameters: Any) -> str:
        code, message = refused(call, meshName="shop", **parameters)
        assert code == "BadRequestException"
        return message

    create = appmesh.create_virtual_node
    assert "Service discovery" in bad(create, virtualNodeName="n", spec={"listeners": [listener()]})
    alone = {"serviceDiscovery": dns("n")}
    assert bad(create, virtualNodeName="n", spec=alone) == "Service Discovery can't be set without a listener."
    backend = {"virtualService": {"virtualServiceName": "a"}}
    assert "unique" in bad(create, virtualNodeName="n", spec={"backends": [backend, backend]})
    wrong = listener(timeout={"grpc": {"idle": {"unit": "s", "value": 1}}})
    assert "timeout" in bad(create, virtualNodeName="n", spec={"listeners": [wrong], "serviceDiscovery": dns("n")})
    assert "/" in bad(create, virtualNodeName="a/b", spec={})

    listeners = {"listeners": [listener(80), listener(81)]}
    appmesh.create_virtual_router(meshName="shop", virtualRouterName="r", spec=listeners)
    route = {"virtualRouterName": "r", "routeName": "x"}
    assert bad(appmesh.create_route, **route, spec=http(n=1)) == (
        "Route must define a port match criteria if the Virtual Router has multiple listeners"
    )
    both = http(n=1)
    both["httpRoute"]["match"] = {"prefix": "/", "path": {"exact": "/"}, "port": 80}
    assert "Exactly one" in bad(appmesh.create_route, **route, spec=both)
    assert "Exactly one" in bad(appmesh.create_route, **route, spec={"priority": 1})
    retries = http(n=1)
    retries["httpRoute"] |= {"match": {"prefix": "/", "port": 80}}
    retries["httpRoute"]["retryPolicy"] = {
        "maxRetries": 1,
        "perRetryTimeout": {"unit": "s", "value": 1},
        "httpRetryEvents": ["sometimes"],
    }
    assert "sometimes" in bad(appmesh.create_route, **route, spec=retries)
    lost = {"provider": {"virtualNode": {"virtualNodeName": "nobody"}}}
    code, message = refused(appmesh.create_virtual_service, meshName="shop", virtualServiceName="s", spec=lost)
    assert (code, "nobody" in message) == ("NotFoundException", True)
    assert refused(appmesh.describe_mesh, meshName="shop", meshOwner="1" * 12)[0] == "NotImplemented"
    assert appmesh.list_routes(meshName="shop", virtualRouterName="r")["routes"] == []


def test_what_several_listeners_ask_for(appmesh: Any) -> None:
    appmesh.create_mesh(meshName="shop")
    node = {"meshName": "shop", "virtualNodeName": "n"}
    one = {"listeners": [listener(80)], "serviceDiscovery": dns("n")}
    two = {**one, "listeners": [listener(80), listener(81)]}
    router = {"meshName": "shop", "virtualRouterName": "r"}
    appmesh.create_virtual_node(**node, spec=one)
    appmesh.create_virtual_router(**router, spec={"listeners": [listener(80)]})
    appmesh.create_route(**router, routeName="x", spec=http(n=1))
    assert refused(appmesh.update_virtual_node, **node, spec=two) == (
        "BadRequestException",
        "All Routes for this Virtual Node must define a target port before adding multiple listeners to this Virtual "
        "Node. 1 Route(s) are missing port. Listing up to 5 route names: [x]",
    )
    spec = http()
    spec["httpRoute"]["action"] = {"weightedTargets": [{"virtualNode": "n", "weight": 1, "port": 80}]}
    appmesh.update_route(**router, routeName="x", spec=spec)
    appmesh.update_virtual_node(**node, spec=two)
    assert "must define a port" in refused(appmesh.update_route, **router, routeName="x", spec=http(n=1))[1]

    service = {"meshName": "shop", "virtualServiceName": "s"}
    appmesh.create_virtual_service(**service, spec={"provider": {"virtualNode": {"virtualNodeName": "n"}}})
    gateway = {"meshName": "shop", "virtualGatewayName": "in"}
    appmesh.create_virtual_gateway(**gateway, spec={"listeners": [listener(90)]})
    target: dict[str, Any] = {"virtualService": {"virtualServiceName": "s"}}
    entry = {"httpRoute": {"match": {"prefix": "/"}, "action": {"target": target}}}
    place = {**gateway, "gatewayRouteName": "all"}
    assert "Target must define a port" in refused(appmesh.create_gateway_route, **place, spec=entry)[1]
    target["port"] = 80
    appmesh.create_gateway_route(**place, spec=entry)
    more = {"listeners": [listener(90), listener(91)]}
    assert "1 GatewayRoute(s) are missing port" in refused(appmesh.update_virtual_gateway, **gateway, spec=more)[1]
    entry["httpRoute"]["match"]["port"] = 90
    appmesh.update_gateway_route(**place, spec=entry)
    appmesh.update_virtual_gateway(**gateway, spec=more)
    del entry["httpRoute"]["match"]["port"]
    assert "port match" in refused(appmesh.update_gateway_route, **place, spec=entry)[1]
    for prefix in ("/aws-appmesh/x", "/aws-app-mesh"):
        entry["httpRoute"]["match"]["prefix"] = prefix
        assert "reserved" in refused(appmesh.update_gateway_route, **place, spec=entry)[1]


def test_tls_that_cannot_be(cloud: LocalCloud, appmesh: Any) -> None:
    appmesh.create_mesh(meshName="shop")
    node = {"meshName": "shop", "virtualNodeName": "n"}

    def bad(tls: dict[str, Any]) -> str:
        spec = {"listeners": [listener(80, tls={"mode": "STRICT", **tls})], "serviceDiscovery": dns("n")}
        code, message = refused(appmesh.create_virtual_node, **node, spec=spec)
        assert code == "BadRequestException"
        return message

    missing = f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/00000000-0000-0000-0000-000000000000"
    assert missing in bad({"certificate": {"acm": {"certificateArn": missing}}})
    public = cloud.client("acm").request_certificate(DomainName="n.shop.test")["CertificateArn"]
    assert bad({"certificate": {"acm": {"certificateArn": public}}}) == (
        f"Certificate {public} must be issued by a private certificate authority"
    )
    authority = f"arn:aws:acm-pca:us-east-1:{ACCOUNT}:certificate-authority/00000000-0000-0000-0000-000000000000"
    trust = {"trust": {"acm": {"certificateAuthorityArns": [authority]}}}
    spec = {"backendDefaults": {"clientPolicy": {"tls": {"validation": trust}}}}
    assert refused(appmesh.create_virtual_node, **node, spec=spec)[0] == "BadRequestException"

    names = {"subjectAlternativeNames": {"match": {"exact": ["*.shop.local"]}}}
    tls: dict[str, Any] = {"validation": {"trust": {"file": {"certificateChain": "/ca.pem"}}, **names}}
    spec = {"backends": [{"virtualService": {"virtualServiceName": "s", "clientPolicy": {"tls": tls}}}]}
    assert "wildcards" in refused(appmesh.create_virtual_node, **node, spec=spec)[1]
    tls["enforce"] = False
    appmesh.create_virtual_node(**node, spec=spec)


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Mesh": {"Type": "AWS::AppMesh::Mesh", "Properties": {"Spec": {"EgressFilter": {"Type": "ALLOW_ALL"}}}},
        "Node": {
            "Type": "AWS::AppMesh::VirtualNode",
            "Properties": {
                "MeshName": {"Fn::GetAtt": "Mesh.MeshName"},
                "VirtualNodeName": "blue",
                "Spec": {
                    "Listeners": [
                        {
                            "PortMapping": {"Port": 9080, "Protocol": "http"},
                            "ConnectionPool": {"HTTP": {"MaxConnections": 10}},
                            "TLS": {
                                "Mode": "STRICT",
                                "Certificate": {"File": {"CertificateChain": "/c.pem", "PrivateKey": "/c.key"}},
                            },
                        }
                    ],
                    "ServiceDiscovery": {"AWSCloudMap": {"NamespaceName": "n.local", "ServiceName": "blue"}},
                },
            },
        },
        "Router": {
            "Type": "AWS::AppMesh::VirtualRouter",
            "Properties": {
                "MeshName": {"Fn::GetAtt": "Mesh.MeshName"},
                "Spec": {"Listeners": [{"PortMapping": {"Port": 80, "Protocol": "http"}}]},
            },
        },
        "Route": {
            "Type": "AWS::AppMesh::Route",
            "Properties": {
                "MeshName": {"Fn::GetAtt": "Mesh.MeshName"},
                "VirtualRouterName": {"Fn::GetAtt": "Router.VirtualRouterName"},
                "RouteName": "all",
                "Spec": {
                    "HttpRoute": {
                        "Match": {"Prefix": "/"},
                        "Action": {
                            "WeightedTargets": [{"VirtualNode": {"Fn::GetAtt": "Node.VirtualNodeName"}, "Weight": 100}]
                        },
                    }
                },
            },
        },
        "Service": {
            "Type": "AWS::AppMesh::VirtualService",
            "Properties": {
                "MeshName": {"Fn::GetAtt": "Mesh.MeshName"},
                "VirtualServiceName": "colors.n.local",
                "Spec": {
                    "Provider": {"VirtualRouter": {"VirtualRouterName": {"Fn::GetAtt": "Router.VirtualRouterName"}}}
                },
            },
        },
        "Gateway": {
            "Type": "AWS::AppMesh::VirtualGateway",
            "Properties": {
                "MeshName": {"Fn::GetAtt": "Mesh.MeshName"},
                "Spec": {"Listeners": [{"PortMapping": {"Port": 8088, "Protocol": "http"}}]},
            },
        },
        "Entry": {
            "Type": "AWS::AppMesh::GatewayRoute",
            "Properties": {
                "MeshName": {"Fn::GetAtt": "Mesh.MeshName"},
                "VirtualGatewayName": {"Fn::GetAtt": "Gateway.VirtualGatewayName"},
                "Spec": {
                    "HttpRoute": {
                        "Match": {"Prefix": "/"},
                        "Action": {
                            "Target": {
                                "VirtualService": {"VirtualServiceName": {"Fn::GetAtt": "Service.VirtualServiceName"}}
                            }
                        },
                    }
                },
            },
        },
    },
    "Outputs": {"Node": {"Value": {"Ref": "Node"}}, "Id": {"Value": {"Fn::GetAtt": "Node.Id"}}},
}


def test_a_stack(cloud: LocalCloud, appmesh: Any) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
    (mesh,) = appmesh.list_meshes()["meshes"]
    name = mesh["meshName"]
    assert name.startswith("s-Mesh-")
    node = appmesh.describe_virtual_node(meshName=name, virtualNodeName="blue")["virtualNode"]
    assert node["spec"]["serviceDiscovery"] == {"awsCloudMap": {"namespaceName": "n.local", "serviceName": "blue"}}
    assert node["spec"]["listeners"][0]["connectionPool"] == {"http": {"maxConnections": 10}}
    outputs = stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"]
    assert [output["OutputValue"] for output in outputs] == [node["metadata"]["arn"]] * 2

    other = json.loads(json.dumps(TEMPLATE))
    other["Resources"]["Route"]["Properties"]["Spec"]["HttpRoute"]["Match"]["Prefix"] = "/v2"
    other["Resources"]["Mesh"]["Properties"]["Tags"] = [{"Key": "team", "Value": "a"}]
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(other))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
    (router,) = appmesh.list_virtual_routers(meshName=name)["virtualRouters"]
    place = {"meshName": name, "virtualRouterName": router["virtualRouterName"]}
    route = appmesh.describe_route(**place, routeName="all")["route"]
    assert route["spec"]["httpRoute"]["match"] == {"prefix": "/v2"}
    tags = appmesh.list_tags_for_resource(resourceArn=mesh["arn"])["tags"]
    assert {"key": "team", "value": "a"} in tags

    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
    assert appmesh.list_meshes()["meshes"] == []
