"""The commands: one file for each command or group, with its name.

A command that asks the broker looks like this. Its docstring is its help text, and has an example:

    @connects()
    def uptime(connection: Connection, as_json: JSONOption = False) -> None:
        with connection.operator() as operator:
            counters = all_rows(operator, "counters", connection)

`connects` adds `--timeout`, `--backend`, `--key-file` and `--broker-key`. A new command also needs a line in
app.py, a row and a section in docs/cli.md, and a wrong use in tests/cli/test_usage.py.
"""
