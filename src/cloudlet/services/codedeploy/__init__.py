"""CodeDeploy: traffic of Lambda aliases and ECS services, shifted step by step."""
