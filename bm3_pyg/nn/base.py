"""What the models of this package have in common."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bm3_pyg.errors import ConfigError
from bm3_pyg.ops.graph import Graph
from bm3_pyg.ops.item_graph import ItemGraph
from bm3_pyg.ops.precision import full_precision
from bm3_pyg.protocols import Scorer, ranking_mode

Moved = TypeVar("Moved", bound="Model")


class Model(nn.Module):
    """A module that shows its sizes and options, and whose graphs go where its tensors go."""

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's options, as plain values."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(tensor.device for tensor in chain(self.parameters(), self.buffers()))

    def extra_repr(self) -> str:
        """The sizes, and the options with their values."""
        sizes = {name: getattr(self, name) for name in ("num_users", "num_items") if hasattr(self, name)}
        return ", ".join(f"{name}={value!r}" for name, value in {**sizes, **self.options}.items())

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)
        return state

    def _apply(self: Moved, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Moved:
        super()._apply(fn, recurse)
        for name, value in list(vars(self).items()):
            if isinstance(value, (Graph, ItemGraph)):
                setattr(self, name, value.to(self.device))
        return self


class EmbeddingModel(Model):
    """A model whose scores are dot products of embeddings."""

    def embed(self) -> tuple[Tensor, Tensor]:
        """Users and items, [U, D] and [I, D]: their dot products are the scores."""
        raise NotImplementedError

    @torch.no_grad()
    @full_precision
    def scorer(self) -> Scorer:
        """Embed all users and items once, in eval mode; the returned function maps user ids [B] to scores [B, I]."""
        with ranking_mode(self):
            users, items = self.embed()
        return full_precision(lambda ids: users[ids] @ items.T)


def check_batch(users: Tensor, items: Tensor) -> None:
    """Raise :class:`ConfigError` unless both are ids of one shape [B]."""
    if users.dim() != 1 or users.shape != items.shape:
        found = f"{list(users.shape)} and {list(items.shape)}"
        raise ConfigError(f"users, items: got shapes {found}, expected one [B] for both")
    for name, ids in (("users", users), ("items", items)):
        if ids.dtype not in (torch.int64, torch.int32):
            raise ConfigError(f"{name}: got {ids.dtype}, expected integer ids")
