"""Containers: what runs a task's containers, and what lets them talk."""
