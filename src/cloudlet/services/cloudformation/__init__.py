"""CloudFormation: stacks, change sets, and the run of each deployment."""
