"""The cluster query language, as AWS documents it."""

from __future__ import annotations

import pytest

from cloudlet.errors import AwsError
from cloudlet.services.ecs import query

FACTS = {
    "attribute:ecs.instance-type": ["t2.small"],
    "attribute:ecs.availability-zone": ["us-east-1a"],
    "attribute:stack": ["prod"],
    "task:group": ["service:web", "family:job"],
    "runningTasksCount": ["3"],
    "agentConnected": ["true"],
}


@pytest.mark.parametrize(
    ("expression", "is_true"),
    [
        ("attribute:ecs.instance-type == t2.small", True),
        ("attribute:ecs.instance-type != t2.small", False),
        ("attribute:ecs.instance-type =~ t2.*", True),
        ("attribute:ecs.instance-type !~ t2.*", False),
        ("attribute:ecs.availability-zone in [us-east-1a, us-east-1b]", True),
        ("attribute:ecs.availability-zone not_in [us-east-1a]", False),
        ("attribute:stack exists", True),
        ("attribute:other !exists", True),
        ('attribute:stack == "prod" and runningTasksCount > 2', True),
        ("runningTasksCount >= 4 or task:group == service:web", True),
        ("not(task:group == service:web)", False),
        ("!(agentConnected == false) && (runningTasksCount < 10)", True),
        ("attribute:stack equals prod", True),
    ],
)
def test_expressions(expression: str, is_true: bool) -> None:
    assert query.parse(expression)(FACTS) is is_true


@pytest.mark.parametrize("expression", ["", "attribute:x", "attribute:x ==", "(attribute:x == y", "a == b c", "a in b"])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(AwsError, match="Invalid expression"):
        query.parse(expression)
