"""Measures Cloudlet beside its peers, in one run."""
