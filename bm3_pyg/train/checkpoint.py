"""best.pt and last.pt: read only if every bit is sound, without unpickling anything but tensors and plain values."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bm3_pyg.errors import RunError, one_line, shown
from bm3_pyg.train import plain
from bm3_pyg.train.plain import SCHEMA, Check, figures, integer, listing, mapping, mapping_of, maybe, number, text

MODEL = mapping({"name": text, "options": mapping_of(plain.option)})


def read_best(path: Path, device: torch.device) -> dict[str, Any]:
    """The selected weights; see :meth:`bm3_pyg.train.run_files.RunFiles.best`."""
    check = mapping(
        {"schema": plain.exactly(SCHEMA), "fingerprint": text, "epoch": integer(), "model": mapping_of(plain.anything)},
        {"settings": MODEL, "kept": mapping_of(mapping({"rows": _whole, "weight": _finite}))},
    )
    return dict(check(load_checkpoint(path, device), str(path)))


def read_last(path: Path, device: torch.device) -> dict[str, Any]:
    """What training goes on from; see :meth:`bm3_pyg.train.run_files.RunFiles.last`."""
    state = mapping(
        {
            "epoch": integer(),
            "step": integer(),
            "order": maybe(_whole),
            "sums": mapping_of(_finite),
            "best_epoch": integer(),
            "best": figures(),
            "without_gain": integer(),
            "seconds": number(0),
        }
    )
    check = mapping(
        {
            "schema": plain.exactly(SCHEMA),
            "model": mapping_of(plain.anything),
            "optimizer": plain.anything,
            "state": state,
            "rng": _bytes,
        },
        {
            "global_rng": listing(_bytes),
            "cuda_rng": listing(_bytes),
            "evaluated": plain.boolean,
            "settings": mapping({"model": MODEL, "train": mapping_of(plain.scalar)}),
        },
    )
    last = dict(check(load_checkpoint(path, device), str(path)))
    at = last["state"]
    if (at["step"] == 0) != (at["order"] is None) or (at["step"] == 0) != (not at["sums"]):
        raise RunError(f"{path}: state: step {at['step']} does not go with its order and sums of losses")
    if at["best_epoch"] > at["epoch"]:
        raise RunError(f"{path}: state: best_epoch {at['best_epoch']} is after epoch {at['epoch']}")
    return last


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint of this package, whose every record has the checksum that it was written with.

    Its tensors lie in the file, and are read from there when they are asked for.
    """
    plain.require_file(path)
    check_archive(path)
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for what it does not take
        raise RunError(f"{path}: damaged or not a checkpoint ({one_line(error)[:300]})") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("schema") != SCHEMA:
        raise RunError(f"{path}: not a checkpoint of a run, expected schema {SCHEMA}")
    return checkpoint


def check_archive(path: Path) -> None:
    """Raise :class:`RunError` unless every record of torch's zip file is sound; torch itself checks none."""
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                stored = record.compress_type == zipfile.ZIP_STORED and record.file_size == record.compress_size
                # Flags: of a data descriptor, of UTF-8 names. With an attribute torch takes a record for a folder.
                if not stored or record.flag_bits & ~0x808 or record.external_attr:
                    raise zipfile.BadZipFile(f"a header of {record.filename!r}")
            if (bad := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"checksum of {bad!r}")
    except Exception as error:  # a damaged header can raise almost anything
        raise RunError(f"{path}: damaged or not a checkpoint ({one_line(error)[:300]})") from None


def load_weights(model: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Load ``weights`` into ``model``.

    Raises:
        RunError: a weight is missing, too many, of another shape or type, or not finite.
    """
    own = model.state_dict()
    if other := sorted(own.keys() ^ weights.keys()):
        raise RunError(f"{path}: {shown(other[0])} is {'missing' if other[0] in own else 'no weight of the model'}")
    for name, value in weights.items():
        saved, expected = _described(value), _described(own[name])
        if saved != expected:
            raise RunError(f"{path}: does not fit the model ({name} is {saved}, expected {expected})")
        if not _is_finite(value) and _is_finite(own[name]):
            raise RunError(f"{path}: {name}: got NaN or infinity, expected finite numbers")
    try:
        model.load_state_dict(weights)
    except Exception as error:  # modules may have states of their own kind
        raise RunError(f"{path}: does not fit the model ({one_line(error)[:300]})") from error


def match_precision(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Give ``model`` the precision that all ``weights`` have, where it has another throughout."""
    precisions = _precisions(weights)
    if len(precisions) == len(_precisions(model.state_dict())) == 1:
        model.to(precisions.pop())


def _precisions(weights: Mapping[str, Any]) -> set[torch.dtype]:
    return {value.dtype for value in weights.values() if isinstance(value, Tensor) and value.is_floating_point()}


def _described(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def check_optimizer(optimizer: torch.optim.Optimizer, saved: Any, steps: int, path: Path) -> None:
    """Load ``saved`` into ``optimizer``.

    Raises:
        RunError: it is not the state of this optimizer after ``steps`` steps.
    """
    where = f"{path}: optimizer"
    own = optimizer.state_dict()
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        plain.fault(where, saved, f"the keys {', '.join(own)}")
    groups = _groups(saved, len(own["param_groups"]), where)
    for mine, theirs in zip(own["param_groups"], groups, strict=True):
        for key in mine.keys() & theirs.keys():
            if type(mine[key]) is not type(theirs[key]) or repr(mine[key]) != repr(theirs[key]):
                plain.fault(f"{where}: {key}", theirs[key], plain.short(mine[key]))
    moments = {"step": _finite, "exp_avg": _finite, "exp_avg_sq": _finite}
    states = saved["state"] if isinstance(saved["state"], dict) else plain.fault(where, saved["state"], "a mapping")
    known = {index for group in own["param_groups"] for index in group["params"]}
    if other := [key for key in states if key not in known]:
        raise RunError(f"{where}: state {shown(other[0])} is of no parameter of the model")
    states = {key: mapping(moments)(state, f"{where}: state {shown(key)}") for key, state in states.items()}
    states = {key: {name: value.clone() for name, value in state.items()} for key, state in states.items()}
    groups = [{**mine, **theirs} for mine, theirs in zip(own["param_groups"], groups, strict=True)]
    try:
        optimizer.load_state_dict({**saved, "state": states, "param_groups": groups})
    except Exception as error:  # torch raises many kinds for what does not fit
        raise RunError(f"{where}: does not fit the model ({one_line(error)[:300]})") from error
    tables = saved.get("tables", ())
    if not all(_is_finite(value) for table in tables for value in table.values() if isinstance(value, Tensor)):
        raise RunError(f"{where}: tables: numbers that are not finite")
    taken = [table["step"] for table in tables]
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            expected = parameter.shape if name != "step" else ()
            if value.shape != expected:
                raise RunError(f"{where}: {name}: got shape {list(value.shape)}, expected {list(expected)}")
        taken.append(int(state["step"]))
    if max(taken, default=0) != steps:
        raise RunError(f"{where}: took {max(taken, default=0):,} steps, expected the {steps:,} of its epoch and step")


def _groups(saved: Mapping[str, Any], count: int, where: str) -> list[Any]:
    groups = saved["param_groups"]
    if not isinstance(groups, list) or len(groups) != count or not all(isinstance(group, dict) for group in groups):
        plain.fault(f"{where}: param_groups", groups, f"a list of {count}")
    return groups


def _tensor(words: str, sound: Check) -> Check:
    def check(value: Any, where: str) -> Any:
        return value if isinstance(value, Tensor) and sound(value, where) else plain.fault(where, value, words)

    return check


_finite = _tensor("a tensor of finite numbers", lambda value, _: _is_finite(value))
_whole = _tensor("a tensor of int64, 1-d", lambda value, _: value.dtype == torch.int64 and value.dim() == 1)
_bytes = _tensor("a tensor of uint8, 1-d", lambda value, _: value.dtype == torch.uint8 and value.dim() == 1)


def _is_finite(value: Any) -> bool:
    """Whether all numbers are finite, without a temporary of the tensor's size."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
        return True
    values = value.values() if value.layout != torch.strided else value
    return all(math.isfinite(float(end)) for end in torch.aminmax(values))
