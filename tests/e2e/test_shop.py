"""The example application, from ``cloudlet up`` to an order that comes out at the other end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

SHOP = Path(__file__).parents[2] / "examples" / "shop" / "template.yaml"


class Up:
    """``cloudlet up`` with its events as they come."""

    def __init__(self, template: Path, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cloudlet", "up", str(template), "--port", "0", "--json"],
            cwd=folder,
            stdout=(folder / "events").open("wb"),
            stderr=(folder / "errors").open("wb"),
            env={key: value for key, value in os.environ.items() if key != "CLOUDLET_ENDPOINT"},
            # A shell that starts its jobs in the background has them ignore Ctrl-C, which is what is tested here.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._file = folder / "events"
        self._errors = folder / "errors"

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        """The first event that is wanted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self._file.read_text().splitlines():
                if line.endswith("}") and wanted(event := json.loads(line)):
                    return event
            assert self.process.poll() is None, self._errors.read_text()
            time.sleep(0.05)
        raise AssertionError(f"not seen in {self._file.read_text()}\n{self._errors.read_text()}")

    def stop(self) -> None:
        """Ctrl-C."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        assert not psutil.wait_procs(family, timeout=5)[1], "processes are left after Ctrl-C"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Up]:
    up = Up(SHOP, tmp_path)
    yield up
    if up.process.poll() is None:
        up.stop()


def ask(url: str, document: Any = None) -> Any:
    """GET, or POST a document; the answer as JSON where it is JSON."""
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        body = answer.read().decode()
        return json.loads(body) if "json" in answer.headers["content-type"] else body


def test_an_order_comes_out_at_the_other_end(shop: Up) -> None:
    done = shop.wait_for(lambda event: event["event"] in ("done", "failed"))
    assert done.get("status") == "CREATE_COMPLETE", done
    urls = {output["key"]: output["value"] for output in done["outputs"]}
    assert "<html" in ask(urls["Page"])
    user = ask(f"{urls['Users']}/users", {"name": "Ada"})
    assert [product["id"] for product in ask(f"{urls['Products']}/products")] == ["kettle", "cup", "teapot"]

    order = ask(f"{urls['Orders']}/orders", {"user": user["id"], "product": "kettle"})
    assert order["status"] == "PLACED"
    told = shop.wait_for(lambda event: event["event"] == "log" and f"order {order['id']} (1 x kettle)" in str(event))
    assert "Dear Ada" in str(told)
    assert ask(f"{urls['Orders']}/orders/{order['id']}")["status"] == "CONFIRMED"
    assert [one["id"] for one in ask(f"{urls['Orders']}/users/{user['id']}/orders")] == [order["id"]]

    # There was one kettle; the second order is refused, and shipping hears of the first only.
    late = ask(f"{urls['Orders']}/orders", {"user": user["id"], "product": "kettle"})
    shop.wait_for(lambda event: event["event"] == "log" and f"order {late['id']} is REJECTED" in str(event))
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(f"{urls['Orders']}/orders", {"user": "nobody", "product": "cup"})
    assert refused.value.code == 422
    refused.value.close()
    shop.stop()
