"""Step Functions: state machines in the Amazon States Language."""
