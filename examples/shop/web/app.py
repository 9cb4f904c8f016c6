"""The web page."""

import json
import os
from pathlib import Path

PAGE = Path(__file__).with_name("index.html").read_text()


def handler(event, context):
    services = {name: os.environ[name.upper()] for name in ("users", "products", "orders")}
    page = PAGE.replace("{{services}}", json.dumps(services))
    return {"statusCode": 200, "headers": {"content-type": "text/html; charset=utf-8"}, "body": page}
