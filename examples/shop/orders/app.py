"""The orders service: takes an order and puts it on the queue."""

import json
import os
import time
import urllib.error
import urllib.request
import uuid

import boto3
from boto3.dynamodb.conditions import Key

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
sqs = boto3.client("sqs")


def handler(event, context):
    route = event["routeKey"]
    if route == "POST /orders":
        return place(json.loads(event.get("body") or "{}"))
    if route == "GET /orders/{id}":
        order = table.get_item(Key={"id": event["pathParameters"]["id"]}).get("Item")
        return answer(200, order) if order else answer(404, {"message": "There is no such order."})
    user = event["pathParameters"]["user"]
    found = table.query(IndexName="by-user", KeyConditionExpression=Key("user").eq(user), ScanIndexForward=False)
    return answer(200, found["Items"])


def place(wanted):
    user, product, quantity = wanted.get("user"), wanted.get("product"), wanted.get("quantity", 1)
    if not user or not product or not isinstance(quantity, int) or quantity < 1:
        return answer(400, {"message": "An order needs a user, a product and a quantity of at least 1."})
    name = name_of(user)
    if name is None:
        return answer(422, {"message": f"There is no user {user}."})
    order = {
        "id": uuid.uuid4().hex[:8],
        "user": user,
        "name": name,
        "product": product,
        "quantity": quantity,
        "status": "PLACED",
        "placed": int(time.time() * 1000),
    }
    table.put_item(Item=order)
    sqs.send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(order))
    print(f"order {order['id']} placed: {quantity} x {product} for {name}")
    return answer(202, order)


def name_of(user):
    """The user's name, asked of the users service, or None."""
    try:
        with urllib.request.urlopen(f"{os.environ['USERS']}/users/{user}", timeout=5) as found:
            return json.load(found)["name"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def answer(status, body):
    body = json.dumps(body, default=int)
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": body}
