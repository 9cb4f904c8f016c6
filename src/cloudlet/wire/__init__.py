"""AWS's protocols: bytes <-> typed operations, compiled from botocore's models. Knows no service by name."""
