"""`python -m ringback_website`: build the documentation site, and serve it on loopback."""

from __future__ import annotations

import argparse
import sys
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
    try:
        site = build(arguments.into)
    except BuildFailed as failed:
        sys.stderr.write(f"{failed}\n")
        return 1
    sys.stdout.write(f"{site}\n")
    if arguments.serve is not None:
        _serve(str(site), arguments.serve)
    return 0


def _serve(site: str, port: int) -> None:
    with ThreadingHTTPServer(
        ("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=site)
    ) as server:
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    sys.exit(main())
