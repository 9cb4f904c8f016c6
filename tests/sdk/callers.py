"""Who calls a cloud that enforces policies."""

from __future__ import annotations

import configparser
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud


def root_of(cloud: LocalCloud) -> dict[str, str]:
    """A client's settings of the account's root, whose keys IAM writes down when it is first asked."""
    file = configparser.ConfigParser()
    if not file.read(cloud.data_dir / "credentials"):
        with pytest.raises(ClientError):
            LocalCloud.client(cloud, "sts", access_key="AKIAIOSFODNN7EXAMPLE", secret_key="x").get_caller_identity()
        file.read(cloud.data_dir / "credentials")
    given = file["default"]
    return {"access_key": given["aws_access_key_id"], "secret_key": given["aws_secret_access_key"]}


class Strict(LocalCloud):
    """A cloud that enforces policies, whose clients are its root."""

    def __init__(self) -> None:
        super().__init__("--auth", "enforce")

    def client(self, service: str, *arguments: Any, **settings: Any) -> Any:
        return super().client(service, *arguments, **root_of(self), **settings)
