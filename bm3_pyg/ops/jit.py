"""The decorator of the loops that numba compiles: kept in numba's cache where it can be, else compiled anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

from bm3_pyg.errors import one_line, warn_once
from bm3_pyg.timeline import part
from bm3_pyg.waiting import waiting


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator as :func:`numba.njit` with ``options``, releasing the GIL, with a cache that is never needed.

    Numba keeps what it compiled in ``$NUMBA_CACHE_DIR``, beside the package, or in the user's cache folder. Where none
    of them can be written, the function is compiled in every process that calls it, which is said once a process.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(nogil=True, **options)(function)
        try:
            if not os.path.isabs(os.path.expanduser("~")) and not os.environ.get("NUMBA_CACHE_DIR"):
                raise RuntimeError("this user has no home folder")  # numba would make a folder called ~
            dispatcher._cache = _Cache(function)
        except (RuntimeError, OSError) as error:  # no place for it
            _say(error)
        compile_anew = dispatcher.compile

        def compile_or_load(signature: Any) -> Any:
            with part("compile"), waiting("compiling loops, once for this machine and this version"):
                return compile_anew(signature)

        dispatcher.compile = compile_or_load
        return dispatcher

    return decorate


class _Cache(FunctionCache):
    """Numba's cache of a function, whose files may be damaged and whose disk may be full."""

    def load_overload(self, *which: Any) -> Any:
        try:
            return super().load_overload(*which)
        except Exception:  # whatever is wrong with a file, its content can be made anew
            _try(self.flush)
            return None

    def save_overload(self, *what: Any) -> None:
        _try(super().save_overload, *what)


def _try(write: Callable[..., None], *what: Any) -> None:
    try:
        write(*what)
    except Exception as error:  # it reads before it writes, what may be damaged in any way
        _say(error)


def _say(error: Exception) -> None:
    warn_once(
        "numba has no cache, so every process compiles its loops anew (%s); NUMBA_CACHE_DIR can name a folder for it",
        one_line(error),
    )
