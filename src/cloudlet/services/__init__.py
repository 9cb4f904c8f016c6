"""The services: one folder each, named as botocore names it, with the same rooms in every one."""
