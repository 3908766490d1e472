"""Who is connected: connections, identities, sessions, the roster. Pure."""
