"""A service that says who it is, asks another if it is told of one, and fails on demand.

GET /       its name, version and task; or with UPSTREAM, what that service answers
GET /health whether it is there
POST /break from now on this task answers 503, though its health check stays good
POST /die   this task ends at once, as if its machine were gone
"""

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.environ["NAME"]
VERSION = os.environ.get("VERSION", "1")
UPSTREAM = os.environ.get("UPSTREAM", "")
PORT = 8080


def task_id():
    """The id of this task, from ECS's task metadata."""
    with urllib.request.urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"] + "/task", timeout=5) as answer:
        return json.load(answer)["TaskARN"].rpartition("/")[2]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together
    task = ""
    is_broken = False

    def do_GET(self):
        if self.path == "/health":
            return self.send(200, "ok")
        if Handler.is_broken:
            return self.send(503, f"{NAME} {VERSION} {self.task} is broken")
        if not UPSTREAM:
            return self.send(200, f"{NAME} {VERSION} {self.task}")
        try:
            with urllib.request.urlopen(UPSTREAM, timeout=10) as answer:
                self.send(200, answer.read().decode().strip())
        except urllib.error.HTTPError as error:
            self.send(502, f"{UPSTREAM} answered {error.code}")
        except OSError as error:
            self.send(502, f"{UPSTREAM} does not answer: {error}")

    def do_POST(self):
        if self.path == "/die":
            os._exit(1)
        Handler.is_broken = self.path == "/break"
        self.send(200, self.task)

    def send(self, status, words):
        body = (words + "\n").encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


if __name__ == "__main__":
    # The first process of a container ends at SIGTERM only if it says so.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if VERSION == "broken":
        sys.exit("this version does not start")
    Handler.task = task_id()
    print(f"{NAME} {VERSION} listens", flush=True)
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
