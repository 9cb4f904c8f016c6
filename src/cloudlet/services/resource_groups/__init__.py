"""Resource Groups: what belongs together, by its tags or its stack."""
