"""The Resource Groups Tagging API: the tags of all services in one place."""
