"""SNS: topics, their subscriptions, and the delivery of what is published."""
