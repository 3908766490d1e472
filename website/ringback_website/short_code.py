"""Short words of code that stay on one line: a browser would break `--json` after its first hyphen."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST = 24
"""How many characters such a word may have. A longer one may be too wide for a column on a phone."""

_WORD = re.compile(rf"<code>((?:[^<&\s]|&\w+;){{1,{LONGEST}}})</code>")


def keep_whole(text: str) -> str:
    """Return a page in HTML whose short words of code have a class of their own."""
    return _WORD.sub(r'<code class="short">\1</code>', text)


def keep_whole_in(page: Path) -> None:
    """Do that in a file."""
    page.write_text(keep_whole(page.read_text("utf-8")), "utf-8")
