"""Sockets: the two ROUTER sockets, their connection events, the poller, the ZAP handler."""
