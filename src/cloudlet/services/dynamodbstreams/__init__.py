"""DynamoDB Streams: the reading side of DynamoDB's stream engine."""
