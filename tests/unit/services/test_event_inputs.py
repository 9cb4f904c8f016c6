"""Input transformers: what a template makes of an event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloudlet.errors import AwsError
from cloudlet.services.events.inputs import payload

EVENT = {"id": "1", "detail-type": "t", "detail": {"user": "u", "data": {"a": "b"}, "list": ["x"]}}


def made(template: str) -> Any:
    paths = {name: f"$.detail.{name}" for name in ("user", "data", "list")}
    target = {"InputTransformer": {"InputPathsMap": paths, "InputTemplate": template}}
    return json.loads(payload(target, json.dumps(EVENT).encode(), "arn:aws:events:r:a:rule/n", "now"))


def test_values_in_texts_and_in_objects() -> None:
    assert made('{"a": "users/<user>", "b": <data>, "c": [<user>]}') == {"a": "users/u", "b": {"a": "b"}, "c": ["u"]}
    assert made('"<user> has <data> and <list>"') == "u has {a:b} and [x]"
    assert made('{"e": <aws.events.event>, "j": <aws.events.event.json>}') == {
        "e": {"id": "1", "detailType": "t"},
        "j": EVENT,
    }


def test_what_makes_no_json_is_not_delivered() -> None:
    with pytest.raises(AwsError):
        made('{"a": "<data>"}')
