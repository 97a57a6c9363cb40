"""Random numbers: a run's own, and PyTorch's global ones for models that draw from those."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Generator
from torch.utils._python_dispatch import TorchDispatchMode

from bm3_pyg.errors import ConfigError

_SWITCHING = threading.RLock()  # held while PyTorch's global generators are another's


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the context, one thread at a time, PyTorch's global numbers for the CPU come from ``seed``.

    Afterwards they go on as if nothing had been drawn.
    """
    generator = torch.default_generator
    with _SWITCHING:
        before = generator.get_state()
        generator.manual_seed(seed)
        try:
            yield
        finally:
            generator.set_state(before)


class RunNumbers:
    """The random numbers of one training run.

    Attributes:
        generator: on ``device``, the run's own; PyTorch's global one if the model ``shares`` that, in the main thread.

    Args:
        seed: of everything.
        device: where the model is.
        shares: the model cannot be given a generator.
    """

    def __init__(self, seed: int, device: torch.device, shares: bool) -> None:
        self.alone = threading.current_thread() is threading.main_thread()
        self._global: list[Generator] = []
        if self.alone:
            self._global = [torch.default_generator]
            if device.type == "cuda":
                index = torch.cuda.current_device() if device.index is None else device.index
                self._global.append(torch.cuda.default_generators[index])
        self._seed, self._before = seed, [generator.get_state() for generator in self._global]
        self.generator = self._global[-1] if shares and self.alone else Generator(device).manual_seed(seed)

    def __enter__(self) -> RunNumbers:
        own = all(self.generator is not generator for generator in self._global)
        with _SWITCHING:
            for generator in self._global:
                generator.manual_seed(2**32 - 1 - self._seed if own else self._seed)  # not the numbers of the own one
        return self

    def __exit__(self, *error: object) -> None:
        with _SWITCHING:
            for generator, state in zip(self._global, self._before, strict=True):
                generator.set_state(state)

    def drawing(self) -> AbstractContextManager[object]:
        """To be entered where the model draws.

        Raises:
            ConfigError: within the context, if PyTorch's global numbers are drawn outside the main thread: other
                threads draw from them too, so that a seed would not decide the result.
        """
        return nullcontext() if self.alone else _Refusing()

    def state_dict(self) -> dict[str, Any]:
        """Where all the numbers stand."""
        return {"rng": self.generator.get_state(), "global_rng": [generator.get_state() for generator in self._global]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`.

        Raises:
            RuntimeError: the state is that of a generator on another kind of device.
        """
        own = state["rng"]
        if self.generator.device.type == "cuda" and state.get("cuda_rng"):  # of every GPU, in runs of before
            own = state["cuda_rng"][self.generator.device.index or 0]
        self.generator.set_state(own.cpu())
        for generator, numbers in zip(self._global, state.get("global_rng", []), strict=False):
            generator.set_state(numbers.cpu())


class _Refusing(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None:
            raise ConfigError(
                f"model: {func} draws from PyTorch's global random numbers, which threads share; fit it in the main "
                "thread, or draw from the generator that fit gives to loss(users, items, generator=...)"
            )
        return func(*args, **kwargs)
