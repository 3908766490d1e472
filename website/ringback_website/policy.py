"""A Content-Security-Policy for each page, with which a browser loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

_SCRIPT = re.compile(r"<script(?![^>]*\b(?:src|type)=)[^>]*>(.*?)</script>", re.S)
_HEAD = '<meta charset="utf-8">'


def add_policy(page: Path) -> None:
    """Allow a page what belongs to the site, and its own inline scripts by their hashes."""
    text = page.read_text("utf-8")
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in _SCRIPT.findall(text)
    }
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {' '.join(sorted(hashes))}",
            "style-src 'self' 'unsafe-inline'",  # icons and search results have style attributes
            "img-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self'",
            "base-uri 'self'",
            "form-action 'none'",
        ]
    )
    head, found, rest = text.partition(_HEAD)
    if not found:
        raise ValueError(f"{page}: it has no {_HEAD} to put the policy after")
    tag = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    page.write_text(f"{head}{found}{tag}{rest}", "utf-8")
