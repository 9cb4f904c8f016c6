// What the orders service and its worker share.
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { SNSClient } from "@aws-sdk/client-sns";
import { SQSClient } from "@aws-sdk/client-sqs";
import { DynamoDBDocumentClient } from "@aws-sdk/lib-dynamodb";

export const table = DynamoDBDocumentClient.from(new DynamoDBClient({}));
export const sqs = new SQSClient({});
export const sns = new SNSClient({});
export const { TABLE, QUEUE, TOPIC, USERS, PRODUCTS, PORT = "8080" } = process.env;

// The first process of a container ends at SIGTERM only if it says so.
process.on("SIGTERM", () => process.exit(0));
