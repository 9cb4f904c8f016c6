"""What a task's Envoy is told for Service Connect, held against a golden file. ``UPDATE_GOLDEN=1`` writes it anew."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cloudlet.errors import AwsError
from cloudlet.services.ecs import service_connect
from cloudlet.services.ecs.service_connect import Place

_GOLDEN = Path(__file__).parents[3] / "golden" / "service_connect.json"


def _definition(*ports: tuple[str, int, str], mode: str = "awsvpc") -> dict[str, Any]:
    mappings = [{"name": name, "containerPort": port, "appProtocol": protocol} for name, port, protocol in ports]
    return {"networkMode": mode, "containerDefinitions": [{"name": "app", "portMappings": mappings}]}


def _configuration(**more: Any) -> dict[str, Any]:
    alias = {"port": 80, "dnsName": "orders"}
    web = {"portName": "web", "discoveryName": "orders", "clientAliases": [alias]}
    return {"enabled": True, "namespace": "arn", "services": [{**web, **more}]}


def test_a_tasks_envoy() -> None:
    definition = _definition(("web", 8080, "http"))
    offered = [
        *service_connect.endpoints_of(_configuration(timeout={"perRequestTimeoutSeconds": 3}), definition),
        {"discovery": "db", "name": "db.shop", "port": 5432, "protocol": "tcp", "timeout": {"idleTimeoutSeconds": 60}},
        {"discovery": "ledger", "name": "ledger.shop", "port": 9000, "protocol": "grpc", "timeout": {}},
    ]
    connect = service_connect.of_task(
        {**_configuration(), "accessLogConfiguration": {"format": "TEXT"}}, definition, offered
    )
    assert service_connect.hosts(connect) == {
        "db.shop": "127.255.0.1",
        "ledger.shop": "127.255.0.2",
        "orders": "127.255.0.3",
    }
    members = {"orders": [Place("10.0.0.3", 15100), Place("10.0.0.2", 15100)], "db": [Place("10.0.0.4", 5433)]}
    made = service_connect.snapshot(connect, members, "/log")
    made.check()
    text = json.dumps(dataclasses.asdict(made), indent=1, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        _GOLDEN.write_text(text)
    assert text == _GOLDEN.read_text()


def test_ports_of_envoy_are_nobody_elses() -> None:
    connect = service_connect.of_task(_configuration(), _definition(("web", 15100, "http")), [])
    assert connect["ingress"][0]["port"] == 15101
    connect = service_connect.of_task(_configuration(ingressPortOverride=9999), _definition(("web", 80, "http")), [])
    assert connect["ingress"][0]["port"] == 9999


@pytest.mark.parametrize(
    ("more", "definition", "code"),
    [
        ({"tls": {"issuerCertificateAuthority": {}}}, _definition(("web", 80, "http")), "InvalidParameterException"),
        ({"portName": "other"}, _definition(("web", 80, "http")), "InvalidParameterException"),
        ({}, _definition(("web", 80, "http"), mode="host"), "InvalidParameterException"),
        ({"timeout": {"perRequestTimeoutSeconds": 1}}, _definition(("web", 80, "tcp")), "InvalidParameterException"),
    ],
)
def test_what_is_refused(more: dict[str, Any], definition: dict[str, Any], code: str) -> None:
    with pytest.raises(AwsError) as error:
        service_connect.check("CreateService", _configuration(**more), definition)
    assert error.value.code == code
