"""A listener's or a rule's requests, shared out between two target groups while a deployment shifts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def shared_out(actions: Sequence[dict[str, Any]], groups: tuple[str, str], share: float) -> list[dict[str, Any]]:
    """A rule's actions with ``share`` per cent forwarded to the second group and the rest to the first, if any."""
    forward = next((one for one in actions if one["Type"] == "forward"), {"Type": "forward"})
    first, second = weights(share)
    chosen = [{"TargetGroupArn": groups[1], "Weight": second}]
    if groups[0] and groups[0] != groups[1]:
        chosen.insert(0, {"TargetGroupArn": groups[0], "Weight": first})
    config: Any = forward.get("ForwardConfig", {})
    made = {"Type": "forward", "ForwardConfig": {**config, "TargetGroups": chosen}}
    if "Order" in forward:
        made["Order"] = forward["Order"]
    return [*(one for one in actions if one["Type"] != "forward"), made]


def weights(share: float) -> tuple[int, int]:
    """The weights of the old and the new target group for per cent of the new one; the largest weight is 999."""
    if share.is_integer():
        return int(100 - share), int(share)
    new = max(1, math.floor(share * 9.99 + 0.5))
    return 999 - new, new
