"""Requests that nobody should send, to both services on real servers: `make fuzz`."""
