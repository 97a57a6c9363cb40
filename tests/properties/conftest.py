"""Properties that must hold for whatever hypothesis thinks of; ``--hypothesis-profile=long`` lets it think longer.

Both draw the same examples every time, so that a failure is a change of the code; ``--hypothesis-profile=new`` draws
others, and prints what repeats a failure.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_ANY = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("quick", _ANY, max_examples=60, derandomize=True)
settings.register_profile("long", _ANY, max_examples=500, derandomize=True)
settings.register_profile("new", _ANY, max_examples=500, print_blob=True)
settings.load_profile("quick")
