// The orders worker: reserves what was ordered and tells everybody what became of it.
import { PublishCommand } from "@aws-sdk/client-sns";
import { DeleteMessageCommand, ReceiveMessageCommand } from "@aws-sdk/client-sqs";
import { UpdateCommand } from "@aws-sdk/lib-dynamodb";
import { PRODUCTS, QUEUE, TABLE, TOPIC, sns, sqs, table } from "./orders.js";

async function reserve({ product, quantity }) {
  const answer = await fetch(`${PRODUCTS}/products/${product}/reserve`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ quantity }),
  });
  if (answer.status !== 200 && answer.status !== 409) throw new Error(`products answered ${answer.status}`);
  return answer.status === 200;
}

async function fulfil(order) {
  const status = (await reserve(order)) ? "CONFIRMED" : "REJECTED";
  await table.send(
    new UpdateCommand({
      TableName: TABLE,
      Key: { id: order.id },
      UpdateExpression: "SET #status = :status",
      ExpressionAttributeNames: { "#status": "status" },
      ExpressionAttributeValues: { ":status": status },
    }),
  );
  await sns.send(
    new PublishCommand({
      TopicArn: TOPIC,
      Message: JSON.stringify({ ...order, status }),
      MessageAttributes: { status: { DataType: "String", StringValue: status } },
    }),
  );
  console.log(`order ${order.id} is ${status}`);
}

console.log("the worker listens to its queue");
for (;;) {
  const { Messages = [] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl: QUEUE, WaitTimeSeconds: 20, MaxNumberOfMessages: 10 }));
  for (const message of Messages) {
    try {
      await fulfil(JSON.parse(message.Body));
      await sqs.send(new DeleteMessageCommand({ QueueUrl: QUEUE, ReceiptHandle: message.ReceiptHandle }));
    } catch (error) {
      console.log(`order could not be fulfilled now: ${error}`);
    }
  }
}
