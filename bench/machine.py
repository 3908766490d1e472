"""Describe the machine and the versions that the figures of a benchmark depend on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import zmq
from processes import program

PACKAGES = (
    "ringback",
    "pyzmq",
    "msgpack",
    "nats-py",
    "redis",
    "hiredis",
    "python-socketio",
    "python-engineio",
    "aiohttp",
    "grpcio",
)
PROGRAMS = ("nats-server", "redis-server")


def machine() -> dict[str, Any]:
    """Return the machine, and the versions of the packages and programs that are installed."""
    versions = {"Python": platform.python_version(), "libzmq": zmq.zmq_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    for name in PROGRAMS:
        if (number := program_version(name)) is not None:
            versions[name] = number
    return {
        "cores": os.cpu_count(),
        "cpu": cpu_model(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "versions": versions,
    }


def cpu_model() -> str:
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return match[1] if match else platform.machine()


def program_version(name: str) -> str | None:
    path = program(name)
    if path is None:
        return None
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    match = re.search(r"v=?(\d[\w.]*)", done.stdout)
    return match[1] if match else done.stdout.strip()
