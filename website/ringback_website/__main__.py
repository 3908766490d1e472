"""`python -m ringback_website`: build the documentation site, and serve it on loopback."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ringback_website.build import BuildFailed, build
from ringback_website.repository import ROOT


def main() -> int:
    """Build the site, print where it is, and serve it on loopback if that is wanted."""
    parser = argparse.ArgumentParser(prog="python -m ringback_website", description=__doc__)
    parser.add_argument(
        "--serve", type=int, metavar="PORT", help="serve the site on loopback; 0: any free port"
    )
    parser.add_argument("--into", type=Path, metavar="FOLDER", default=ROOT / "build" / "website")
    arguments = parser.parse_args()
    handler = partial(SimpleHTTPRequestHandler, directory=str(arguments.into / "site"))
    with ExitStack() as stack:
        server = None
        try:
            if arguments.serve is not None:  # first, because a port that is taken is found at once
                server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", arguments.serve), handler))
        except (OSError, OverflowError) as error:
            return _fail(f"cannot serve on port {arguments.serve}: {error}; try make docs DOCS_PORT=8001")
        try:
            site = build(arguments.into)
        except BuildFailed as failed:
            return _fail(str(failed))
        sys.stdout.write(f"{site}\n")
        if server is not None:
            _serve(server)
    return 0


def _fail(problem: str) -> int:
    sys.stderr.write(f"{problem}\n")
    return 1


def _serve(server: ThreadingHTTPServer) -> None:
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
