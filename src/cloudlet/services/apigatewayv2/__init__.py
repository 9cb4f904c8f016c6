"""API Gateway's HTTP APIs, and the front door that HTTP and REST APIs share."""
