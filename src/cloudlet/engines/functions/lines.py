"""What the platform itself writes to a function's log, as text or as JSON.

https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
"""

from __future__ import annotations

import json
import time
from typing import Any

from cloudlet.engines.functions.api import Function


def init(function: Function) -> str:
    """A sandbox starts."""
    if not function.json_log:
        return f"INIT_START Runtime: {function.runtime}\n" if function.image is None else ""
    return _json(
        function,
        "platform.initStart",
        initializationType="on-demand",
        phase="init",
        runtimeVersion=function.runtime,
        functionName=function.name,
        functionVersion=function.version,
    )


def start(function: Function, request_id: str) -> str:
    """An invocation begins."""
    if not function.json_log:
        return f"START RequestId: {request_id} Version: {function.version}\n"
    return _json(function, "platform.start", requestId=request_id, version=function.version)


def report(function: Function, request_id: str, seconds: float, used: int, init_seconds: float, error: str) -> str:
    """An invocation has ended; ``used`` is in megabytes."""
    milliseconds, billed = seconds * 1000, int(seconds * 1000) + 1
    if function.json_log:
        metrics: dict[str, Any] = {
            "durationMs": round(milliseconds, 3),
            "billedDurationMs": billed,
            "memorySizeMB": function.memory,
            "maxMemoryUsedMB": used,
        }
        if init_seconds:
            metrics["initDurationMs"] = round(init_seconds * 1000, 3)
        status = "error" if error else "success"
        return _json(function, "platform.report", requestId=request_id, metrics=metrics, status=status)
    return (
        f"END RequestId: {request_id}\n"
        f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\tBilled Duration: {billed} ms\t"
        f"Memory Size: {function.memory} MB\tMax Memory Used: {used} MB\t"
        + (f"Init Duration: {init_seconds * 1000:.2f} ms\t" if init_seconds else "")
        + "\n"
    )


def _json(function: Function, kind: str, **record: Any) -> str:
    if function.system_level == "WARN":
        return ""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    return json.dumps({"time": now, "type": kind, "record": record}) + "\n"
