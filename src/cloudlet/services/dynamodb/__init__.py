"""DynamoDB: tables, items, expressions, indexes, transactions, expiry and streams on the store."""
