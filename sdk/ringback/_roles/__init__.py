"""What a server, a player and an operator can do, written once for both faces."""
