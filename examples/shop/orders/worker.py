"""The orders worker: reserves what was ordered and tells everybody what became of it."""

import json
import os
import urllib.error
import urllib.request

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
sns = boto3.client("sns")


def handler(event, context):
    failed = []
    for record in event["Records"]:
        try:
            fulfil(json.loads(record["body"]))
        except Exception as error:
            print(f"order could not be fulfilled now: {error!r}")
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def fulfil(order):
    status = "CONFIRMED" if reserve(order["product"], order["quantity"]) else "REJECTED"
    table.update_item(
        Key={"id": order["id"]},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": status},
    )
    sns.publish(
        TopicArn=os.environ["TOPIC"],
        Message=json.dumps({**order, "status": status}),
        MessageAttributes={"status": {"DataType": "String", "StringValue": status}},
    )
    print(f"order {order['id']} is {status}")


def reserve(product, quantity):
    """Ask the products service for the goods; False when there are not enough."""
    request = urllib.request.Request(
        f"{os.environ['PRODUCTS']}/products/{product}/reserve",
        data=json.dumps({"quantity": quantity}).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return False
        raise
