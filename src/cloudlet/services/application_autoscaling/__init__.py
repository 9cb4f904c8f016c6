"""Application Auto Scaling: services that grow and shrink with their load."""
