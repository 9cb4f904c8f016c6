"""EC2: its networks, as templates need them and as tasks and load balancers use them."""
