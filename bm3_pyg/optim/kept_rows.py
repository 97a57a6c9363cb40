"""What is left of a trained row table of which some rows are kept."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from bm3_pyg.errors import ConfigError
from bm3_pyg.ops.precision import full_precision


class KeptRows(nn.Module):
    """Some rows of a :class:`~bm3_pyg.optim.RowTable` [N, d], in its place. Reading others, or all, is refused.

    Args:
        rows: [n] int64, increasing: those that are kept.
        values: [n, d].
        size: N.
    """

    rows: Tensor
    values: Tensor
    trainable = True

    def __init__(self, rows: Tensor, values: Tensor, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("values", values, persistent=False)

    @property
    def shape(self) -> torch.Size:
        """[N, d]"""
        return torch.Size([self.size, self.values.size(1)])

    @property
    def weight(self) -> Tensor:
        self.refuse()

    def gather(self, rows: Tensor) -> Tensor:
        """The rows themselves; shapes: ``rows`` [n] int64 -> [n, d].

        Raises:
            ConfigError: one of them is not kept.
        """
        if not bool(torch.isin(rows, self.rows).all()):
            self.refuse()
        return self.values[torch.searchsorted(self.rows, rows)]

    @full_precision
    def project(self, rows: Tensor, linear: nn.Linear) -> Tensor:
        """``gather(rows) @ linear.weight.T + linear.bias``, in the dtype of ``linear``."""
        return nn.functional.linear(self.gather(rows).to(linear.weight.dtype), linear.weight, linear.bias)

    def refuse(self) -> NoReturn:
        """Raise :class:`ConfigError`."""
        raise ConfigError(
            f"features: of {self.size:,} rows that were trained, the run kept those of the {len(self.rows):,} items "
            "without training interactions; save_features=true keeps them all, and a new model can resume the run"
        )

    def extra_repr(self) -> str:
        return f"{self.size}, {self.values.size(1)}, kept={len(self.rows)}"

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.refuse()
