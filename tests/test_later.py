from __future__ import annotations

import subprocess
import sys


def test_a_module_is_imported_when_it_is_used() -> None:
    script = """
import sys
from bm3_pyg.later import Later
late = Later("colorsys")
assert "colorsys" not in sys.modules
assert late.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
assert "colorsys" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
