"""The logger of the SDK."""

from __future__ import annotations

import logging

log = logging.getLogger("ringback.sdk")
