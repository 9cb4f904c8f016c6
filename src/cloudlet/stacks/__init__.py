"""CloudFormation and SAM: template -> plan -> steps -> state."""
