// The orders service: takes an order and puts it on the queue.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { SendMessageCommand } from "@aws-sdk/client-sqs";
import { GetCommand, PutCommand, QueryCommand } from "@aws-sdk/lib-dynamodb";
import { PORT, QUEUE, TABLE, USERS, sqs, table } from "./orders.js";

async function place(wanted) {
  const { user, product, quantity = 1 } = wanted;
  if (!user || !product || !Number.isInteger(quantity) || quantity < 1)
    return [400, { message: "An order needs a user, a product and a quantity of at least 1." }];
  const found = await fetch(`${USERS}/users/${user}`);
  if (found.status === 404) return [422, { message: `There is no user ${user}.` }];
  const { name } = await found.json();
  const id = randomUUID().slice(0, 8);
  const order = { id, user, name, product, quantity, status: "PLACED", placed: Date.now() };
  await table.send(new PutCommand({ TableName: TABLE, Item: order }));
  await sqs.send(new SendMessageCommand({ QueueUrl: QUEUE, MessageBody: JSON.stringify(order) }));
  console.log(`order ${id} placed: ${quantity} x ${product} for ${name}`);
  return [202, order];
}

async function answer(method, path, body) {
  let match;
  if (path === "/health") return [200, "ok"];
  if (method === "POST" && path === "/orders") return place(JSON.parse(body || "{}"));
  if (method === "GET" && (match = /^\/orders\/([^/]+)$/.exec(path))) {
    const { Item } = await table.send(new GetCommand({ TableName: TABLE, Key: { id: match[1] } }));
    return Item ? [200, Item] : [404, { message: "There is no such order." }];
  }
  if (method === "GET" && (match = /^\/users\/([^/]+)\/orders$/.exec(path))) {
    const { Items } = await table.send(
      new QueryCommand({
        TableName: TABLE,
        IndexName: "by-user",
        KeyConditionExpression: "#user = :user",
        ExpressionAttributeNames: { "#user": "user" },
        ExpressionAttributeValues: { ":user": match[1] },
        ScanIndexForward: false,
      }),
    );
    return [200, Items];
  }
  return [404, { message: "Not Found" }];
}

createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  let status, document;
  try {
    [status, document] = await answer(request.method, request.url.split("?")[0], Buffer.concat(pieces).toString());
  } catch (error) {
    console.log(`${request.method} ${request.url} failed: ${error}`);
    [status, document] = [500, { message: "The order could not be taken now." }];
  }
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(document));
}).listen(Number(PORT), () => console.log(`orders listens on port ${PORT}`));
