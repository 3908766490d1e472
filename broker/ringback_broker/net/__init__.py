"""Sockets: the two ROUTER sockets, the poller, the ZAP handler."""
