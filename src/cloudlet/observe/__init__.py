"""What happened: calls, metrics, log lines, spans."""
