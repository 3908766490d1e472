"""NATS: what the nodes of a realm agree on, and what they send each other. It needs the extra `cluster`."""
