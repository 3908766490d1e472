"""`ringback broker`: run the broker in the foreground."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.settings_options import SettingsOptions, takes_settings

if TYPE_CHECKING:
    from ringback_broker import BrokerSettings


@takes_settings
def broker(options: SettingsOptions) -> None:
    """Run the broker until SIGTERM or SIGINT. Then it drains; a second signal stops it at once.

    It logs to standard error. When it is ready, it logs a line with its addresses. An address is
    tcp://HOST:PORT or ipc://PATH. Options win over the environment, and the environment wins over the
    settings file. The broker reads that file again on SIGHUP.

    Example: ringback broker --key-file broker.key --access access.toml
    """
    from ringback_broker import BindError, Broker, InvalidSetting, RealmFailed
    from ringback_broker.daemon.logs import audit_to, log_to_stderr
    from ringback_broker.daemon.settings_file import read_settings

    loaded = options.load()
    settings, path = loaded.settings, loaded.path

    def reread() -> BrokerSettings:
        again = read_settings(path, options.given, os.environ).settings
        logging.getLogger().setLevel(again.log_level.upper())
        return again

    try:
        with ExitStack() as stack:
            if settings.audit is not None:
                try:
                    stack.enter_context(audit_to(settings.audit))
                except OSError as error:
                    where = loaded.origins["audit"]
                    raise Failure(Exit.USAGE, f"{where}: {settings.audit}: {error.strerror}") from None
            stack.enter_context(log_to_stderr(settings.log_format, settings.log_level))
            if path is not None:
                logging.getLogger("ringback.broker").info("settings are read from %s", path)
            daemon = Broker(settings, None if path is None else reread)
            daemon.handle_signals()
            daemon.notify(os.environ)
            forced = not daemon.run()
    except InvalidSetting as error:
        raise Failure(Exit.USAGE, f"{loaded.where(error.setting)}: {error.reason}") from None
    except BindError as error:
        raise Failure(Exit.BIND_FAILED, str(error)) from None
    except RealmFailed as error:
        raise Failure(Exit.REALM_FAILED, str(error)) from None
    if forced:
        raise typer.Exit(Exit.FORCED)
