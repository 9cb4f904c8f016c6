"""AWS App Mesh, carried by Envoy."""
