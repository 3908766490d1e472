"""Run `ringback` by `python -m ringback_cli`."""

from ringback_cli.main import main

main()
