"""EventBridge: buses, their rules, and the delivery of events to targets."""
