"""API Gateway Management API: what backends do with the connections of WebSocket APIs."""
