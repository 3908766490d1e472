"""Programs with the patches of gevent and eventlet: an endpoint works, or says at once what to do."""

from __future__ import annotations

import pytest
from support.faces import HereBroker
from support.harness import Process

GEVENT = "from gevent import monkey; monkey."
EVENTLET = "import eventlet; eventlet."
REFUSED = {
    "gevent.monkey.patch_all(thread=False, queue=False)": [
        f"{GEVENT}patch_all()",
        f"{GEVENT}patch_thread()",
        f"{GEVENT}patch_all(thread=False)",
    ],
    "eventlet.monkey_patch(thread=False)": [
        f"{EVENTLET}monkey_patch()",
        f"{EVENTLET}monkey_patch(all=False, thread=True)",
    ],
}
FITS = [
    f"{GEVENT}patch_all(thread=False, queue=False)",
    f"{GEVENT}patch_socket()",
    f"{GEVENT}patch_select()",
    f"{EVENTLET}monkey_patch(thread=False)",
    f"{EVENTLET}monkey_patch(all=False, socket=True)",
    f"{EVENTLET}monkey_patch(all=False, select=True)",
]
IMPORT = "import ringback, ringback.aio"
BLOCKING = """
import signal, sys
signal.alarm(25)  # ends a process that hangs
try:
    with ringback.Server(sys.argv[2]) as server, ringback.Player(sys.argv[1], 7) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        print("result", player.trigger_server_callback("echo", 1).result())
except ringback.UsageError as error:
    print(error)
"""
ASYNCIO = """
import asyncio, signal, sys
signal.alarm(25)
async def main():
    async with ringback.aio.Server(sys.argv[2]) as server, ringback.aio.Player(sys.argv[1], 7) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        print("result", await player.trigger_server_callback("echo", 1))
asyncio.run(main())
"""


def last_line(here: HereBroker, *code: str) -> str:
    """Run a program in a process of its own. Return the last line that it prints."""
    quiet = "import warnings; warnings.simplefilter('ignore')"  # eventlet's own, about its future
    with Process("-c", "\n".join((quiet, *code)), here.players, here.backend) as process:
        return process.output()[-1]


@pytest.mark.parametrize("order", ["patched first", "imported first"])
@pytest.mark.parametrize(
    ("patch", "advice"), [(patch, advice) for advice, patches in REFUSED.items() for patch in patches]
)
def test_patched_threads_are_refused(here: HereBroker, patch: str, advice: str, order: str) -> None:
    head = (patch, IMPORT) if order == "patched first" else (IMPORT, patch)
    line = last_line(here, *head, BLOCKING)
    assert "real threads" in line and advice in line


@pytest.mark.parametrize("patch", FITS)
def test_other_patches_do_no_harm(here: HereBroker, patch: str) -> None:
    assert last_line(here, patch, IMPORT, BLOCKING) == "result 1"


@pytest.mark.parametrize("patch", [*FITS, *(patch for patches in REFUSED.values() for patch in patches)])
def test_the_asyncio_face_runs_under_all_patches(here: HereBroker, patch: str) -> None:
    assert last_line(here, patch, IMPORT, ASYNCIO) == "result 1"
