"""The products service: what can be ordered, and how much of it is left."""

import json
import os

import boto3
from botocore.exceptions import ClientError

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])

FIRST_STOCK = [
    {"id": "teapot", "name": "Teapot", "price": 24, "stock": 10},
    {"id": "cup", "name": "Cup", "price": 6, "stock": 100},
    {"id": "kettle", "name": "Copper kettle", "price": 79, "stock": 1},
]


def handler(event, context):
    route = event["routeKey"]
    if route == "POST /products":
        return add(json.loads(event.get("body") or "{}"))
    if route == "POST /products/{id}/reserve":
        return reserve(event["pathParameters"]["id"], json.loads(event["body"])["quantity"])
    return answer(200, products())


def products():
    found = table.scan()["Items"]
    if not found:
        for product in FIRST_STOCK:
            table.put_item(Item=product)
        found = FIRST_STOCK
    return sorted(found, key=lambda product: product["name"])


def add(product):
    if not product.get("id") or not product.get("name"):
        return answer(400, {"message": "A product needs an id and a name."})
    item = {"price": 0, "stock": 0, **product}
    table.put_item(Item=item)
    return answer(201, item)


def reserve(id, quantity):
    try:
        left = table.update_item(
            Key={"id": id},
            UpdateExpression="SET stock = stock - :quantity",
            ConditionExpression="stock >= :quantity",
            ExpressionAttributeValues={":quantity": quantity},
            ReturnValues="UPDATED_NEW",
        )["Attributes"]["stock"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return answer(409, {"message": f"Not enough of {id} is left."})
    print(f"reserved {quantity} of {id}, {left} left")
    return answer(200, {"id": id, "left": left})


def answer(status, body):
    body = json.dumps(body, default=int)
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": body}
