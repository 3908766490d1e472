"""A network namespace whose link to this one can be cut without a word: no RST, no FIN, no error."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from typing import Self


class NoNamespace(Exception):
    """There can't be one here; the message says why."""


class Namespace:
    """A namespace and a pair of interfaces between it and here.

    Attributes:
        host: the address of the end that is here; a broker listens there.
        prefix: a command that runs another within.

    Raises:
        NoNamespace: not root, no `ip`, or not allowed.
    """

    def __init__(self) -> None:
        self._name = f"ringback-{secrets.token_hex(3)}"
        self._link = f"rb{secrets.token_hex(4)}"
        net = f"10.{secrets.randbelow(50) + 200}.{secrets.randbelow(256)}.{4 * secrets.randbelow(64)}"
        first, _, last = net.rpartition(".")
        self.host, self._inside = f"{first}.{int(last) + 1}", f"{first}.{int(last) + 2}"
        self.prefix = ("ip", "netns", "exec", self._name)

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise NoNamespace("only root may make a network namespace")
        if shutil.which("ip") is None:
            raise NoNamespace("there is no `ip` (iproute2)")
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self.close()
            raise NoNamespace(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from None
        except BaseException:
            self.close()
            raise
        return self

    def _make(self) -> None:
        inner = f"{self._link}n"
        _ip("netns", "add", self._name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", inner, "netns", self._name)
        _ip("addr", "add", f"{self.host}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")
        _ip("-n", self._name, "addr", "add", f"{self._inside}/30", "dev", inner)
        _ip("-n", self._name, "link", "set", inner, "up")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes it all away; the pair goes with one of its ends."""
        for command in (("link", "del", self._link), ("netns", "del", self._name)):
            subprocess.run(("ip", *command), capture_output=True, check=False)

    def down(self) -> None:
        """Cuts the link."""
        _ip("-n", self._name, "link", "set", f"{self._link}n", "down")

    def up(self) -> None:
        _ip("-n", self._name, "link", "set", f"{self._link}n", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), capture_output=True, text=True, check=True)
