"""ACM: certificates, issued by a local authority or imported."""
