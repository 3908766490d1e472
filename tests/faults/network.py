"""A network namespace whose link to this one can be cut without a word: no RST, no FIN, no error."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from typing import Self


class NoNamespace(Exception):
    """This machine cannot make a network namespace. The message says why."""


class Namespace:
    """A network namespace, and a pair of interfaces that links it to the outside.

    Attributes:
        host: the IP of the end outside the namespace. The broker listens there.
        prefix: the command that runs another command inside the namespace.

    Raises:
        NoNamespace: the user is not root, there is no `ip`, or the system does not allow it.
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
            raise NoNamespace("the command `ip` (iproute2) is not installed")
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
        """Delete the namespace and the link. Deleting one end of the pair deletes the other end too."""
        for command in (("link", "del", self._link), ("netns", "del", self._name)):
            subprocess.run(("ip", *command), capture_output=True, check=False)

    def down(self) -> None:
        """Cut the link."""
        _ip("-n", self._name, "link", "set", f"{self._link}n", "down")

    def up(self) -> None:
        """Restore the link."""
        _ip("-n", self._name, "link", "set", f"{self._link}n", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), capture_output=True, text=True, check=True)
