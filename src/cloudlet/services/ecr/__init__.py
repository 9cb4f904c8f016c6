"""ECR: repositories of container images, and the registry that serves them."""
