"""Fluentd's configuration file; Fluent Bit's is read by a router in ``tests/sdk/test_ecs_firelens.py``."""

from __future__ import annotations

from typing import Any

from cloudlet.services.ecs import firelens


def _definition(**options: str) -> dict[str, Any]:
    log = {
        "logDriver": "awsfirelens",
        "options": {"@type": "http", "endpoint": "http://logs", "include-pattern": "^a"},
        "secretOptions": [{"name": "key", "valueFrom": "/key"}],
    }
    router = {"name": "router", "firelensConfiguration": {"type": "fluentd", "options": options}}
    return {"networkMode": "bridge", "containerDefinitions": [{"name": "app", "logConfiguration": log}, router]}


def test_fluentd() -> None:
    assert (
        firelens.configuration(_definition(), "t", {"ecs_cluster": "c"})
        == """\
<source>
    @type unix
    path /var/run/fluent.sock
</source>

<source>
    @type forward
    bind 0.0.0.0
    port 24224
</source>

<filter app-firelens-t>
    @type grep
    <regexp>
        key log
        pattern ^a
    </regexp>
</filter>

<filter **>
    @type record_transformer
    <record>
        ecs_cluster c
    </record>
</filter>

<match app-firelens-t>
    @type http
    endpoint http://logs
    key "#{ENV['key_app']}"
</match>
"""
    )


def test_a_file_of_ones_own_and_no_metadata() -> None:
    options = {"config-file-type": "s3", "config-file-value": "arn:aws:s3:::b/k", "enable-ecs-log-metadata": "false"}
    text = firelens.configuration(_definition(**options), "t", {"ecs_cluster": "c"})
    assert "@include /fluentd/etc/external.conf\n" in text
    assert "ecs_cluster" not in text


def test_the_router_is_there_first_and_last() -> None:
    definition = _definition()
    app, router = definition["containerDefinitions"]
    assert firelens.dependencies(definition, app) == [{"containerName": "router", "condition": "START"}]
    assert firelens.dependencies(definition, router) == []
