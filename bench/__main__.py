"""``python -m bench``: the table of every row, with Cloudlet and its peers in the same run."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import load, peers, stored
from bench.rows import ROWS, Row, bare_of
from bench.targets import Bare, Cloudlet, CloudletFullSync, Target


def main() -> None:
    """Measure what the arguments ask for and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each cell is measured")
    parser.add_argument("--rows", default="", help="only rows whose names contain this")
    parser.add_argument("--connections", default="1,16", help="numbers of connections")
    parser.add_argument("--no-peers", action="store_true", help="Cloudlet and the bare server only")
    parser.add_argument("--full-sync", action="store_true", help="measure Cloudlet with --sync full too")
    parser.add_argument("--stored", type=int, default=0, metavar="N", help="compare the empty case with N stored")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead")
    arguments = parser.parse_args()
    makers: dict[str, Callable[[], Target]] = {"cloudlet": Cloudlet}
    if arguments.full_sync:
        makers["cloudlet --sync full"] = CloudletFullSync
    if not arguments.no_peers:
        makers.update(peers.found())
    makers["bare server"] = Bare
    if arguments.stored:
        stored.compare(arguments.stored, arguments.seconds)
        return
    if not arguments.rows:
        print_start(makers)
    print(f"{'':26}{'conns':>6}{'server':>22}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}  goal")
    for row in ROWS:
        if arguments.rows.lower() in row.name.lower():
            for connections in (int(number) for number in arguments.connections.split(",")):
                measure(row, connections, arguments.seconds, makers, arguments.json)


def print_start(makers: dict[str, Callable[[], Target]]) -> None:
    """Time from start to first answer (median of five) and memory when idle."""
    print(f"{'':26}{'start s':>9}{'idle MB':>9}")
    for name, make in makers.items():
        if name == "bare server":
            continue
        starts, memory = [], 0.0
        for _ in range(5):
            target = make()
            target.start()
            starts.append(target.seconds_to_first_answer)
            time.sleep(0.5)
            memory = target.memory() / 1e6
            target.stop()
        print(f"{name:26}{sorted(starts)[2]:>9.3f}{memory:>9.1f}")
    print()


def measure(row: Row, connections: int, seconds: float, makers: dict[str, Callable[[], Target]], as_json: bool) -> None:
    """One row at one number of connections: every server fresh, Cloudlet's rate over each other's."""
    own = 0.0
    for name, make in makers.items():
        if name not in (*row.peers, "cloudlet", "cloudlet --sync full", "bare server"):
            continue
        target = make()
        try:
            target.start()
            script = bare_of(row, target) if name == "bare server" else row.prepare(target)
            result = load.run("127.0.0.1", target.port, script, connections, seconds)
        except Exception as error:
            print(f"{row.name:26}{connections:>6}{name:>22}  failed: {error}", flush=True)
            continue
        finally:
            target.stop()
        own = result.rate if name == "cloudlet" else own
        ratio = own / result.rate if result.rate else 0.0
        goal = {"ministack": f">= {row.goal:g}", "dynalite": ">= 1" if row.name != "DynamoDB query" else ""}.get(
            name, ""
        )
        if as_json:
            line: dict[str, Any] = {"row": row.name, "connections": connections, "server": name, **vars(result)}
            print(json.dumps(line), flush=True)
            continue
        print(
            f"{row.name:26}{connections:>6}{name:>22}"
            f"{result.rate:>12.0f}{result.p50 * 1e3:>9.2f}{result.p99 * 1e3:>9.2f}"
            f"{'' if name == 'cloudlet' else f'{ratio:>8.2f}':>8}  {goal}"
            + (f"  {result.errors} errors: {result.first_error}" if result.errors else ""),
            flush=True,
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
