"""What the fronts of HTTP share: REST APIs, HTTP and WebSocket APIs, and the URLs of functions."""
