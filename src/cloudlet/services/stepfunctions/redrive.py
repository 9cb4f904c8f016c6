"""Redriving: an execution that has failed, timed out or was stopped is made ready to go on where it stood."""

from __future__ import annotations

from cloudlet.services.stepfunctions import records
from cloudlet.services.stepfunctions.records import Frame, MapRun, Row
from cloudlet.store import Tx


def redriven(tx: Tx, row: Row, now: float) -> list[MapRun]:
    """Make an execution ready, and the children of its distributed Maps; those that are at work again."""
    body, number = row.body, row.number
    body.redrives, body.redriven = body.redrives + 1, now
    body.error = body.cause = body.output = None
    again: list[MapRun] = []
    for path, frame in records.frames(tx, number).items():
        if _is_lost_child(frame):
            records.drop_frames(tx, [(number, path)])
            continue
        if frame.map_run and (run := records.map_run(tx, frame.map_run)) is not None:
            again.append(_children_again(tx, number, run, now))
        records.put_frames(tx, [(number, path, records.encode(_fresh(frame)))])
    last = tx.execute("SELECT MAX(id) FROM event WHERE execution = ?", (number,)).fetchone()[0]
    event = {
        "timestamp": now,
        "type": "ExecutionRedriven",
        "id": last + 1,
        "previousEventId": last,
        "executionRedrivenEventDetails": {"redriveCount": body.redrives},
    }
    records.add_events(tx, [(number, last + 1, records.encode(event))])
    records.save(tx, number, "RUNNING", None, records.encode(body))
    return again


def _children_again(tx: Tx, number: int, run: MapRun, now: float) -> MapRun:
    run.status, run.stopped, run.succeeded, run.failed = "RUNNING", None, 0, 0
    records.put_map_run(tx, number, run)
    for status in ("FAILED", "TIMED_OUT", "ABORTED"):
        for child in records.page(tx, "map_run", run.arn, status, 2**62, run.children):
            redriven(tx, child, now)
    return run


def _is_lost_child(frame: Frame) -> bool:
    """Whether a frame is what a distributed Map has kept of a child that did not succeed."""
    return frame.done and not frame.state and frame.output["Status"] != "SUCCEEDED"


def _fresh(frame: Frame) -> Frame:
    """A thread that has failed or was ended, ready to go on."""
    frame.failure, frame.attempt = None, None
    frame.retries, frame.tries = [], 0
    return frame
