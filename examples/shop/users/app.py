"""The users service: who may order."""

import json
import os
import uuid

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event, context):
    route = event["routeKey"]
    if route == "POST /users":
        return add(json.loads(event.get("body") or "{}"))
    if route == "GET /users/{id}":
        user = table.get_item(Key={"id": event["pathParameters"]["id"]}).get("Item")
        return answer(200, user) if user else answer(404, {"message": "There is no such user."})
    return answer(200, sorted(table.scan()["Items"], key=lambda user: user["name"]))


def add(user):
    if not user.get("name"):
        return answer(400, {"message": "A user needs a name."})
    item = {"id": uuid.uuid4().hex[:8], "name": user["name"]}
    table.put_item(Item=item)
    print(f"welcome, {item['name']} ({item['id']})")
    return answer(201, item)


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
