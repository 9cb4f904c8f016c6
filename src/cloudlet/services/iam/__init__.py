"""IAM: identities, policies and the keys that signatures are verified with."""
