"""What is being waited for, told when it takes long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SECONDS = 2.0
"""What takes less is not told."""
LOG = logging.getLogger("bm3_pyg.waiting")


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Log ``what``, such as "reading the features", when the context lasts longer than :data:`SECONDS`; once a process.

    Logged at INFO by ``bm3_pyg.waiting``, which commands show on standard error and Python by itself does not.
    """
    if what in _told or not LOG.isEnabledFor(logging.INFO):
        yield
        return
    timer = threading.Timer(SECONDS, _tell, (what,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(what: str) -> None:
    if what in _told:  # by another thread, since
        return
    _told.add(what)
    with suppress(BaseException):  # nobody reads: the thread that works will find out
        LOG.info("%s ...", what)


_told: set[str] = set()
