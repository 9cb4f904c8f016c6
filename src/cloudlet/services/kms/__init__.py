"""KMS: keys that really encrypt, sign and authenticate."""
