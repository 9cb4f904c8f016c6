"""Proxies that carry traffic which Python never touches."""
