"""Puts `support/` on the path: pasts to tune on, and policies that are named by their import path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
