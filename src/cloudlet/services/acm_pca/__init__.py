"""AWS Private CA: certificate authorities with real keys, which issue real certificates."""
