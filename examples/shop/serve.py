"""Serves one of the shop's services over HTTP: in a container runs what elsewhere runs as a function.

    python3 serve.py users
"""

import importlib.util
import json
import os
import re
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROUTES = {
    "users": ["GET /users", "POST /users", "GET /users/{id}"],
    "products": ["GET /products", "POST /products", "POST /products/{id}/reserve"],
    "web": ["GET /"],
}
PORT = int(os.environ.get("PORT", "8080"))


def handler_of(service):
    """The service's handler, from its own folder."""
    file = Path(__file__).parent / service / "app.py"
    spec = importlib.util.spec_from_file_location(service, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


def serve(service):
    handler = handler_of(service)
    routes = [(route, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route))) for route in ROUTES[service]]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            path = self.path.partition("?")[0]
            if path == "/health":
                return self.send(200, {}, "ok")
            for route, pattern in routes:
                if match := pattern.fullmatch(f"{self.command} {path}"):
                    event = {"routeKey": route, "pathParameters": match.groupdict(), "body": body}
                    result = handler(event, None)
                    return self.send(result["statusCode"], result.get("headers", {}), result["body"])
            self.send(404, {"content-type": "application/json"}, json.dumps({"message": "Not Found"}))

        do_GET = do_POST = answer

        def send(self, status, headers, body):
            body = body.encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": len(body)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    print(f"{service} listens on port {PORT}", flush=True)
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()


if __name__ == "__main__":
    # The first process of a container ends at SIGTERM only if it says so.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve(sys.argv[1])
