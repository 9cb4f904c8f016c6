"""Route 53, and the DNS server that answers its zones."""
