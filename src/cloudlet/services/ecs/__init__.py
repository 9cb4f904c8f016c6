"""ECS and Fargate: containers that run, services that are kept running."""
