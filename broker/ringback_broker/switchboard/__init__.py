"""Routing, the life of a session, sending, flow control. Pure."""
