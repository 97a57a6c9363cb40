"""The small protocols that training, evaluation and recommendation speak, and what asks who speaks them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeGuard, runtime_checkable

from torch import Tensor, nn

from bm3_pyg.errors import ConfigError, nearest

Scorer = Callable[[Tensor], Tensor]
"""User ids [B] -> scores [B, I] of every item, higher is better."""


class Losses(Protocol):
    """A named tuple of scalar losses, of which ``total`` is the one to minimise."""

    @property
    def total(self) -> Tensor: ...

    def _asdict(self) -> dict[str, Tensor]: ...


@runtime_checkable
class Recommender(Protocol):
    """Anything that can score every item for a user."""

    def scorer(self) -> Scorer:
        """Do the work shared by all users once, and return the function that scores items for given users."""
        ...


@runtime_checkable
class Trainable(Recommender, Protocol):
    """A recommender, in practice a ``torch.nn.Module``, with a loss on a batch of positives.

    Ask with :func:`is_trainable`: since Python 3.12 ``isinstance`` does not see a ``loss`` that is a submodule. A
    ``loss`` that also takes ``generator``, as those of this package do, draws from it all that is random.
    """

    def loss(self, users: Tensor, items: Tensor) -> Losses:
        """Losses of the interactions ``(users[b], items[b])``, both [B]; negatives are the model's own business."""
        ...


@runtime_checkable
class PerEpoch(Trainable, Protocol):
    """A trainable that draws something anew for every epoch, from PyTorch's global random numbers or, if its
    ``start_epoch`` takes ``generator``, from that. Ask with :func:`draws_per_epoch`.

    What it drew is part of its ``state_dict()``, so that a run stopped within an epoch goes on with the same.
    """

    def start_epoch(self) -> None:
        """Called before the first step of each epoch."""
        ...


def is_recommender(model: object) -> TypeGuard[Recommender]:
    """Whether ``model`` is a :class:`Recommender`, wherever its ``scorer`` comes from."""
    return _can(model, "scorer")


def is_trainable(model: object) -> TypeGuard[Trainable]:
    """Whether ``model`` is a :class:`Trainable`, be its ``loss`` a method, a submodule or any other callable."""
    return _can(model, "scorer") and _can(model, "loss")


def trains(model: nn.Module) -> bool:
    """Whether there is anything to train: a loss, and parameters that want gradients."""
    return any(parameter.requires_grad for parameter in model.parameters()) and is_trainable(model)


def draws_per_epoch(model: object) -> TypeGuard[PerEpoch]:
    """Whether ``model`` is a :class:`PerEpoch`."""
    return is_trainable(model) and _can(model, "start_epoch")


def takes_generator(function: Callable[..., object]) -> bool:
    """Whether ``function`` has a parameter ``generator``."""
    try:
        return "generator" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False


def unwrapped(model: Any) -> Any:
    """``model``, or the module that ``torch.compile`` has wrapped.

    Raises:
        ConfigError: unless it is a :class:`Recommender`; the message says what to pass in its place.
    """
    model = getattr(model, "_orig_mod", model)
    name = type(model).__name__
    if isinstance(model, type):
        raise ConfigError(f"model: got the class {model.__name__}, expected an object, as {model.__name__}(...) gives")
    if is_recommender(model):
        return model
    if hasattr(model, "as_bm3"):
        raise ConfigError(f"model: got {name}, whose graph comes with each call, expected model.as_bm3(edge_index)")
    if isinstance(model, nn.Module) and is_recommender(getattr(model, "module", None)):
        raise ConfigError(f"model: got {name}, expected the module inside it, model.module")
    raise ConfigError(f"model: got {name}, expected a recommender, which has scorer() (bm3_pyg.protocols.Recommender)")


def to_train(model: Any) -> nn.Module:
    """``model`` as :func:`bm3_pyg.fit` takes it, :func:`unwrapped`.

    Raises:
        ConfigError: unless it is a module, and has a loss if it has anything to train.
    """
    model = unwrapped(model)
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: got {name}, expected a torch.nn.Module")
    if not is_trainable(model) and any(parameter.requires_grad for parameter in model.parameters()):
        likely = nearest("loss", (key for key in dir(model) if "loss" in key.lower() and key != "loss"))
        hint = f" ({likely})" if likely.startswith("did") else ""
        raise ConfigError(
            f"model: {name} has parameters to train but no loss(users, items){hint}; to have it ranked as it is, "
            "call requires_grad_(False) first"
        )
    return model


@contextmanager
def ranking_mode(model: Any) -> Iterator[Any]:
    """Within the context every submodule is in eval mode, afterwards in the mode it was in before.

    Gives the model, :func:`unwrapped`. Whatever ranks runs in here, the call of the scorer included.
    """
    model = unwrapped(model)
    with _modes_kept(model):
        if isinstance(model, nn.Module) and any(module.training for module in model.modules()):
            model.eval()
        yield model


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Within the context ``model`` trains; each submodule is afterwards in the mode it was in before.

    Submodules in eval mode stay so where the model itself is in training mode: someone has put them there.
    """
    with _modes_kept(model):
        if not model.training:
            model.train()
        yield


@contextmanager
def _modes_kept(model: object) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    try:
        yield
    finally:
        if any(module.training != mode for module, mode in modes):
            modes[0][0].train(modes[0][1])  # for modules that do more in train() than to set the mode
            for module, mode in modes:
                module.training = mode


def _can(model: object, name: str) -> bool:
    return callable(getattr(model, name, None))
