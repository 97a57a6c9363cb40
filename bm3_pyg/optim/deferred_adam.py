"""Adam whose cost follows the rows a step touches, with dense Adam's result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from bm3_pyg.errors import ConfigError
from bm3_pyg.ops.precision import full_precision
from bm3_pyg.optim.kept_rows import KeptRows
from bm3_pyg.optim.row_adam import RowAdam
from bm3_pyg.optim.row_table import RowTable


class DeferredAdam(torch.optim.Optimizer):
    r"""Adam over dense parameters and :class:`~bm3_pyg.optim.RowTable` tables, of which it moves only the rows touched.

    Dense Adam also moves a row whose gradient is zero, by its momentum. Here such moves are owed: each row remembers
    the step it was last touched at, and is caught up, in closed form, when it is read or touched next
    (:mod:`bm3_pyg.optim.rows` has the equations). Results are those of ``torch.optim.Adam`` but for rounding. A table
    takes no part in steps for which it has no gradient, as in ``torch.optim.Adam``.

    Building the optimizer attaches it to the tables, as only it knows what their rows are owed: it is asked whenever
    they are read, and their gradients become :class:`~bm3_pyg.optim.row_gradient.RowGradient`. What the model computes
    stays the same, and :meth:`detach` undoes it.

    ``state_dict()`` holds each table's rows as stored, with the moves owed, so ``{"model": model.state_dict(),
    "optimizer": optimizer.state_dict()}`` resumes bit for bit (load the model first) where type of processor, versions,
    threads and kernels are the same; ``model.state_dict()`` alone, whose rows are up to date, is what to evaluate.
    Saving changes nothing.

    Args:
        params: parameters or parameter groups, the tables' weights among them.
        tables: tables to defer. A table of ``params`` that is not named here is treated densely.
        lr: learning rate; schedulers may change it at any step. betas and eps are fixed once a table has taken a step.
        betas: with ``betas[0]**2 < betas[1]``; otherwise a sleeping row's moves would grow instead of fading.
        eps: above 0.
        weight_decay, amsgrad: refused for groups that hold a deferred table, where no row would ever be at rest.

    Raises:
        ConfigError: a setting out of range or refused; a table that is frozen, listed twice, or not among ``params``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        tables: Iterable[RowTable] = (),
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        tables = list(tables)
        if any(not table.trainable for table in tables):
            raise ConfigError("DeferredAdam: a frozen table takes no steps; leave it out")
        self._tables = {id(table.stored): table for table in tables}
        self._rows: dict[int, RowAdam] = {}
        if len(self._tables) < len(tables):
            raise ConfigError("DeferredAdam: the same table was given twice")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "fused": True,
        }
        super().__init__(params, defaults)
        group_of = {id(param): group for group in self.param_groups for param in group["params"]}
        if any(key not in group_of for key in self._tables):
            raise ConfigError("DeferredAdam: a table's weight is not among the parameters")
        for key, table in self._tables.items():
            table.flush()
            betas, eps = group_of[key]["betas"], group_of[key]["eps"]
            self._rows[key] = table.deferral = RowAdam(table.stored, (betas[0], betas[1]), eps)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self._check_group(self.param_groups[-1])

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    @full_precision
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step for every parameter that has a gradient. Nothing is changed if anything is refused."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._check_group(group)
            if any(param.grad is not None and param.grad.is_sparse for param in group["params"]):
                raise ConfigError("DeferredAdam: a sparse gradient, expected a dense one (or a RowTable)")
        for key, rows in self._rows.items():
            rows.check_weight()
            if self._tables[key].deferral is None:
                raise ConfigError("a table was moved, cast or detached since: build the optimizer after that")
            if self._tables[key].deferral is not rows:
                raise ConfigError("another DeferredAdam was built over this table: go on with that one")
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None and id(param) in self._rows:
                    self._rows[id(param)].advance(param.grad, float(group["lr"]))
        for group in self.param_groups:
            self._step_dense(group)
        return loss

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float, error_if_nonfinite: bool = False) -> Tensor:
        """Scale all gradients so that their common 2-norm is at most ``max_norm``; returns the norm before, a scalar.

        What ``torch.nn.utils.clip_grad_norm_`` does, from the factors where a gradient is factored.

        Raises:
            RuntimeError: the norm is not finite and ``error_if_nonfinite``.
        """
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm = torch.linalg.vector_norm(torch.stack([n.to(norms[0]) for n in norms])) if norms else torch.tensor(0.0)
        if error_if_nonfinite and not torch.isfinite(norm):
            raise RuntimeError(f"the gradients' norm is {norm.item()}, so they cannot be clipped")
        scale = (max_norm / (norm + 1e-6)).clamp_(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.to(gradient))
        return norm

    def state_dict(self) -> dict[str, Any]:
        """As any optimizer's, and ``"tables"``: one entry for each deferred table, in the order they were given."""
        return {**super().state_dict(), "tables": [rows.state_dict() for rows in self._rows.values()]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`; it restores the tables' rows too, so load the model before.

        Raises:
            ConfigError: the state is not of these tables or settings; nothing is changed.
        """
        tables = state_dict.get("tables", [])
        if len(tables) != len(self._rows):
            raise ConfigError(f"optimizer state has {len(tables)} deferred tables, expected {len(self._rows)}")
        for rows, state in zip(self._rows.values(), tables, strict=True):
            rows.check_state_dict(state)
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "tables"})
        for rows, state in zip(self._rows.values(), tables, strict=True):
            rows.load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        if self._tables:
            raise ConfigError(
                "DeferredAdam: cannot be copied or pickled, as it holds its tables; save state_dict(), and load that "
                "into the optimizer that build_optimizer makes of the copied model"
            )
        return {**super().__getstate__(), "_tables": {}, "_rows": {}}

    def detach(self) -> None:
        """Write the moves that are owed and let go of the tables, which are then as if no optimizer had held them."""
        for key, table in self._tables.items():
            if table.deferral is self._rows[key]:
                table.flush()
                table.deferral = None

    def _step_dense(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None and id(p) not in self._rows]
        for param in params:
            if not self.state[param]:
                self.state[param] = {
                    "step": torch.zeros((), dtype=torch.float32, device=param.device),
                    "exp_avg": torch.zeros_like(param),
                    "exp_avg_sq": torch.zeros_like(param),
                }
                if group["amsgrad"]:
                    self.state[param]["max_exp_avg_sq"] = torch.zeros_like(param)
        states = [self.state[param] for param in params]
        adam(
            params,
            [param.grad for param in params],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else [],
            [state["step"] for state in states],
            fused=group["fused"] and all(param.device.type in ("cpu", "cuda") for param in params),
            amsgrad=group["amsgrad"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _check_group(self, group: dict[str, Any]) -> None:
        (beta1, beta2), eps, lr = group["betas"], group["eps"], float(group["lr"])
        if not 0 <= lr < math.inf:
            raise ConfigError(f"lr: got {lr!r}, expected a number at least 0")
        if not (0 <= beta1 < 1 and 0 < beta2 < 1 and beta1**2 < beta2):
            raise ConfigError(f"betas: got {beta1!r}, {beta2!r}, expected each below 1 and betas[0]**2 < betas[1]")
        if not 0 < eps < math.inf:
            raise ConfigError(f"eps: got {eps!r}, expected a number above 0")
        held = [id(param) for param in group["params"] if id(param) in self._tables]
        for name in ("weight_decay", "amsgrad"):
            if held and group[name]:
                raise ConfigError(
                    f"{name}: got {group[name]!r}, which a deferred table cannot have (use a group apart)"
                )
        for rows in (self._rows[key] for key in held if key in self._rows):
            if rows.betas != (beta1, beta2) or rows.eps != eps:
                raise ConfigError(
                    f"betas, eps: changed to {beta1!r}, {beta2!r}, {eps!r}, but a deferred table needs those it began "
                    "with (schedulers: cycle_momentum=False)"
                )


def build_optimizer(model: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    """Adam for ``model``: :class:`DeferredAdam` if it has trainable row tables, else fused ``torch.optim.Adam``.

    Raises:
        ConfigError: a parameter cannot be trained; see :func:`check_trainable`.
    """
    check_trainable(model)
    tables = [module for module in model.modules() if isinstance(module, RowTable) and module.stored.requires_grad]
    params = [param for param in model.parameters() if param.requires_grad]
    return DeferredAdam(params, tables, lr=lr) if tables else torch.optim.Adam(params, lr=lr, fused=True)


def check_trainable(model: nn.Module) -> None:
    """Raise :class:`ConfigError` if a parameter to train is an inference tensor, in half precision, which loses Adam's
    small moves, or in a table of which rows are not kept."""
    for module in model.modules():
        if isinstance(module, KeptRows):
            module.refuse()
    for name, param in model.named_parameters():
        if param.requires_grad and param.is_inference():
            raise ConfigError(f"{name}: was made under torch.inference_mode, expected a model made outside of it")
        if param.requires_grad and param.dtype in (torch.float16, torch.bfloat16):
            raise ConfigError(
                f"{name}: is {param.dtype}, expected torch.float32 or torch.float64 to be trained "
                "(for mixed precision, torch.autocast)"
            )
