"""The notifications service: tells the customer; here, in the log."""

import json


def handler(event, context):
    for record in event["Records"]:
        order = json.loads(record["Sns"]["Message"])
        what = f"{order['quantity']} x {order['product']}"
        if order["status"] == "CONFIRMED":
            print(f"Dear {order['name']}, your order {order['id']} ({what}) is on its way.")
        else:
            print(f"Dear {order['name']}, sorry: we have no more of what you ordered ({what}).")
