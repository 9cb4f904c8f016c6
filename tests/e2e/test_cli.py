"""The command: every verb does what its name says, for people and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloudlet.cli.main import VERBS
from cloudlet.testing import LocalCloud


def cloudlet(
    *arguments: str, cloud: LocalCloud | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command, in the environment of a cloud if there is one."""
    environment = {**os.environ, **({"CLOUDLET_ENDPOINT": cloud.endpoint} if cloud else {})}
    return subprocess.run(
        [sys.executable, "-m", "cloudlet", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=60,
    )


def answer(*arguments: str, cloud: LocalCloud) -> Any:
    """What a verb says in JSON."""
    ran = cloudlet(*arguments, "--json", cloud=cloud)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    ran = cloudlet(verb, "--help")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Usage: ")


def test_a_running_cloud_is_seen_moved_and_emptied(cloud: LocalCloud) -> None:
    cloud.client("sqs").create_queue(QueueName="orders")
    status = answer("status", cloud=cloud)
    assert [resource["name"] for resource in status["resources"]] == ["orders"]
    assert "orders" in cloudlet("status", cloud=cloud).stdout
    before = answer("clock", cloud=cloud)
    after = answer("clock", "--advance", "2h", cloud=cloud)
    assert 7200 <= after["now"] - before["now"] < 7260
    assert cloudlet("clock", "--advance", "soon", cloud=cloud).returncode == 2

    (fault,) = answer("fault", "--service", "sqs", "--error", "ThrottlingException", "--status", "400", cloud=cloud)
    with pytest.raises(cloud.client("sqs").exceptions.ClientError, match="ThrottlingException"):
        cloud.client("sqs").list_queues()
    assert fault["error"] == "ThrottlingException"
    assert answer("fault", "--clear", cloud=cloud) == []
    assert cloud.client("sqs").list_queues()["QueueUrls"]

    assert f"export AWS_ENDPOINT_URL={cloud.endpoint}" in cloudlet("env", cloud=cloud).stdout
    script = "import boto3; print(boto3.client('sqs').list_queues()['QueueUrls'][0])"
    ran = cloudlet("run", "--", sys.executable, "-c", script, cloud=cloud)
    assert ran.stdout.strip().endswith("/orders"), ran.stderr
    assert "no-such-program" in cloudlet("run", "--", "no-such-program", cloud=cloud).stderr

    assert answer("reset", "--yes", cloud=cloud) == {"status": "reset"}
    status = answer("status", cloud=cloud)
    assert status["resources"] == []
    assert answer("clock", cloud=cloud)["offset"] == 0
    assert answer("down", cloud=cloud) == {"status": "stopping"}
    for verb in ("status", "logs", "invoke f", "env"):
        ran = cloudlet(*verb.split(), cloud=cloud)
        assert "Traceback" not in ran.stderr
        assert verb == "env" or "no Cloudlet answers" in ran.stderr


def test_the_cloud_of_a_folder_is_found_by_it(tmp_path: Path) -> None:
    with LocalCloud(data_dir=tmp_path / ".cloudlet") as running:
        ran = cloudlet("status", "--json", cwd=tmp_path)
        assert json.loads(ran.stdout)["endpoint"] == running.endpoint
        second = cloudlet("serve", "--port", "0", cwd=tmp_path)
        assert second.returncode == 1
        assert "another Cloudlet works in" in second.stderr
        taken = cloudlet("serve", "--port", running.endpoint.rsplit(":", 1)[1], "--data-dir", str(tmp_path / "other"))
        assert taken.returncode == 1
        assert "Traceback" not in taken.stderr


def test_bad_settings_are_named(tmp_path: Path) -> None:
    for arguments, words in (
        (["--host", "0.0.0.0"], "needs --auth enforce"),
        (["--port", "99999"], "between 0 and 65535"),
        (["--port", "many"], "not a valid integer"),
    ):
        ran = cloudlet("serve", *arguments, cwd=tmp_path)
        assert ran.returncode != 0
        assert words in ran.stderr
    (tmp_path / "cloudlet.toml").write_text("colour = 'red'\n")
    assert "'colour', which is not a setting" in cloudlet("serve", cwd=tmp_path).stderr


def test_doctor_says_what_this_machine_has() -> None:
    findings = {finding["name"]: finding for finding in json.loads(cloudlet("doctor", "--json").stdout)}
    assert findings["python"]["state"] == "ok"
    for finding in findings.values():
        assert finding["state"] == "ok" or finding["needed_for"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_it(shell: str) -> None:
    assert "_CLOUDLET_COMPLETE" in cloudlet("completion", shell).stdout
