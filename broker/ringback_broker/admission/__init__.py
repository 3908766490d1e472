"""Who may join: strangers, HELLO, the access list, tokens. Pure."""
