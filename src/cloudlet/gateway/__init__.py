"""The pipeline of a request: route, authenticate, authorize, limit, fault, call, record."""
