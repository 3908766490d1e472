"""What the broker knows of its peers: connections, identities, sessions, the roster. Pure."""
