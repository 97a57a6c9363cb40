"""What a recommender is made from: a new one is its embeddings, its loss and its docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data.hetero import chosen_modalities, training_of
from bm3_pyg.errors import ConfigError
from bm3_pyg.names import check_option, keyword_options
from bm3_pyg.ops.graph import Graph
from bm3_pyg.ops.item_graph import ItemGraph
from bm3_pyg.ops.precision import full_precision
from bm3_pyg.ops.topk import DotProducts
from bm3_pyg.protocols import Scorer, ranking_mode

if TYPE_CHECKING:
    from typing import Self


class RecommenderModel(nn.Module):
    """A recommender that keeps what it was made with, and whose scores are dot products of its embeddings.

    A model of one's own has a constructor ``(num_users, num_items, edge_index, *, options)``, ``embed()`` and, if it is
    trained, ``loss(users, items)``; see ``examples/own_model.py``. The keyword-only arguments of the constructor are
    its options: they are kept as given, those that have a range in :mod:`bm3_pyg.names` are checked, and runs and
    commands know them. ``modalities`` among them are item features. A model with another way to score has ``scorer``
    in place of ``embed``.

    Attributes:
        unscored: submodules whose trained row tables no score is computed from, as the class itself says: runs keep
            those tables in part (:mod:`bm3_pyg.train.weights`).
        num_users: number of users U, as given.
        num_items: number of items I, as given.
    """

    unscored: ClassVar[tuple[str, ...]] = ()
    num_users: int
    num_items: int
    embed: Callable[[], tuple[Tensor, Tensor]]
    """Users and items, [U, D] and [I, D]."""
    _options: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recorded(cls.__init__)  # type: ignore[method-assign]

    @classmethod
    def from_data(cls, data: HeteroData, **options: Any) -> Self:
        """A model of the training interactions in ``data``, and of its item features if it takes ``modalities``.

        Args:
            data: the dataset.
            options: the constructor's; ``modalities`` may also be a list of names among those in ``data`` (all by
                default, ``[]`` for none).

        Raises:
            ConfigError: if a modality is not in ``data``, or as the constructor does.
        """
        if "modalities" in keyword_options(cls):
            options["modalities"] = chosen_modalities(data, options.get("modalities"))
        return cls(*training_of(data), **options)

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's options, as plain values: enough to build the model anew from the same data.

        Of ``modalities`` these are the names, and of a module, such as an encoder, its class: that has to be given.
        """
        return dict(self._options)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(tensor.device for tensor in chain(self.parameters(), self.buffers()))

    @torch.no_grad()
    @full_precision
    def scorer(self) -> Scorer:
        """Embed all users and items once, in eval mode; the returned function maps user ids [B] to scores [B, I]."""
        with ranking_mode(self):
            users, items = self.embed()
        return DotProducts(users, items)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw ``user_embedding`` and ``item_embedding`` anew, and what submodules have ``reset_parameters`` for."""
        for name, parameter in self.named_parameters(recurse=False):
            if name in ("user_embedding", "item_embedding"):
                nn.init.xavier_uniform_(parameter)
        for module in self.children():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()

    def extra_repr(self) -> str:
        """The sizes, and the options with their values."""
        sizes = {name: getattr(self, name) for name in ("num_users", "num_items") if hasattr(self, name)}
        return ", ".join(f"{name}={value!r}" for name, value in {**sizes, **self.options}.items())

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)
        return state

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for name, value in list(vars(self).items()):
            if isinstance(value, (Graph, ItemGraph)):
                setattr(self, name, value.to(self.device))
        return self


def _recorded(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that first checks its options and keeps what it is called with.

    Where a subclass's own constructor calls it, the options are the subclass's, and these as well if it takes ``**``.
    """
    signature = inspect.signature(init)
    keyword_only = [key.name for key in signature.parameters.values() if key.kind is key.KEYWORD_ONLY]
    takes_more = any(key.kind is key.VAR_KEYWORD for key in signature.parameters.values())

    @wraps(init)
    def recorded(self: RecommenderModel, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        kept, more = vars(self).get("_options", {}), vars(self).get("_more_options", True)
        for name in keyword_only:
            check_option(name, given.arguments[name])
            if more:
                kept.setdefault(name, _plain(name, given.arguments[name]))
        vars(self).update(_options=kept, _more_options=more and takes_more)
        for name in ("num_users", "num_items"):
            if name in given.arguments:
                vars(self).setdefault(name, given.arguments[name])
        init(self, *args, **kwargs)

    return recorded


def embedding(rows: int, dim: int) -> nn.Parameter:
    """A table [rows, dim], Xavier uniform over its shape."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, dim)))


def check_batch(users: Tensor, items: Tensor) -> None:
    """Raise :class:`ConfigError` unless both are ids of one shape [B]."""
    if users.dim() != 1 or users.shape != items.shape:
        shapes = f"{list(users.shape)} and {list(items.shape)}"
        raise ConfigError(f"users, items: got shapes {shapes}, expected one [B] for both")
    for name, ids in (("users", users), ("items", items)):
        if ids.dtype not in (torch.int64, torch.int32):
            raise ConfigError(f"{name}: got {ids.dtype}, expected integer ids")


def _plain(name: str, value: Any) -> Any:
    """An option as a file can hold it."""
    if name == "modalities":
        return list(value) if isinstance(value, Mapping) else []
    return type(value).__name__ if isinstance(value, nn.Module) else value
