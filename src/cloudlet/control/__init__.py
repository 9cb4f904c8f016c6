"""Keeping things as they should be: clock, outbox, reconcile loop, supervision of child processes."""
