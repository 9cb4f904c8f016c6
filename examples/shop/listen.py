"""Gives the messages of a queue to the notifications service, as the topic does where it is a function."""

import os
import signal
import sys

import boto3
from serve import handler_of

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
sqs = boto3.client("sqs")
queue = os.environ["QUEUE"]
handler = handler_of("notifications")
print("notifications listens to its queue", flush=True)
while True:
    for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20, MaxNumberOfMessages=10).get("Messages", []):
        handler({"Records": [{"Sns": {"Message": message["Body"]}}]}, None)
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
