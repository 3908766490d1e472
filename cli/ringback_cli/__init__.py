"""The command line of ringback."""
