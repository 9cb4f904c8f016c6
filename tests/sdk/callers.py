"""Who calls a cloud that enforces policies."""

from __future__ import annotations

import configparser

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud


def root_of(cloud: LocalCloud) -> dict[str, str]:
    """A client's settings of the account's root, whose keys IAM writes down when it is first asked."""
    with pytest.raises(ClientError):
        cloud.client("sts", access_key="AKIAIOSFODNN7EXAMPLE", secret_key="x").get_caller_identity()
    file = configparser.ConfigParser()
    file.read(cloud.data_dir / "credentials")
    given = file["default"]
    return {"access_key": given["aws_access_key_id"], "secret_key": given["aws_secret_access_key"]}
