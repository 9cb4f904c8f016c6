"""Scaling policies, as Application Auto Scaling and EC2 Auto Scaling have them alike."""
