"""`python -m ringback_cli` is `ringback`."""

from ringback_cli.main import main

main()
