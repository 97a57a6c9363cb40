"""A run's folder: what is written when, and how it is read back.

======== =================================================================================================
when     what is written, in this order
======== =================================================================================================
begin    metrics.json, seal.json and what was kept of a test go; config.yaml; environment.json; last.pt
epoch    if it is the best: best-of-last.pt, a link to what best.pt was, and best.pt; a line of history.jsonl;
         every ``checkpoint_seconds`` and at an interrupt last.pt, after which best-of-last.pt goes
end      last.pt; test_users.parquet, test_positives.parquet, beyond.json; seal.json; metrics.json
======== =================================================================================================

config.yaml holds every setting, environment.json versions, device and data hashes, history.jsonl a record an epoch,
best.pt the selected weights, last.pt all that a resume needs, seal.json the SHA-256 of the other files, metrics.json
the result. Each appears whole or not at all, so a kill leaves the folder between two of these steps. What it is then:

- With metrics.json the run is finished.
- Without, it is where last.pt says. best.pt and history.jsonl may be ahead of that: :meth:`RunFolder.begin` takes them
  back, best.pt to best-of-last.pt, history.jsonl to its first lines.
- Without last.pt nothing was trained, and it begins anew.

While a run is going on its folder is locked. Runs older than the seal have none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data import load_dataset, modalities, same_fingerprint
from bm3_pyg.data.content import file_sha256
from bm3_pyg.errors import ConfigError, RunError, nearest, one_line, shown
from bm3_pyg.eval.users import BEYOND_FILE, POSITIVES_FILE, USERS_FILE
from bm3_pyg.files import (
    append_text,
    atomic_file,
    clear_leftovers,
    locked_folder,
    write_text,
)
from bm3_pyg.models import MODELS, model_named, name_of, option_names
from bm3_pyg.names import is_own
from bm3_pyg.protocols import trains, unwrapped
from bm3_pyg.train.checkpoint import load_weights, match_precision
from bm3_pyg.train.environment import environment
from bm3_pyg.train.plain import SCHEMA
from bm3_pyg.train.run_files import SEAL_FILE, RunFiles, check_new_run, is_finished, read_config
from bm3_pyg.train.same_data import refuse_other_data, told_of
from bm3_pyg.train.settings import RESUMABLE, TrainConfig, unknown_key

SPARE = "best-of-last.pt"
KEPT_FILES = (USERS_FILE, POSITIVES_FILE, BEYOND_FILE)
ENDING = ("metrics.json", SEAL_FILE, *KEPT_FILES)
"""Files that only a finished run has, in the order in which they go when it goes on."""
SEALED = ("config.yaml", "environment.json", "history.jsonl", "best.pt", *KEPT_FILES)
"""Files that ``seal.json`` holds the SHA-256 of, beside metrics.json."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    resumed: bool = False

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        model: nn.Module,
        data: HeteroData,
        config: TrainConfig,
        resume: bool = False,
        command: Sequence[str] = (),
    ) -> Iterator[RunFolder]:
        """Hold the folder ``path`` for a new run, or with ``resume`` for the one there; nothing is changed yet.

        Raises:
            RunError: if ``path`` is in use, exists without ``resume``, or holds another run.
            WriteError: if ``path`` cannot be written.
        """
        told = told_of(data)
        settings = _settings(model, data, config, told["fingerprint"])
        here = {**environment(model), **({"command": list(command)} if command else {}), "data": told}
        if resume:
            read_config(path)
        with locked_folder(path):
            if resume:
                saved = read_config(path)
                settings["model"]["name"] = name_of(model, saved["model"]["name"])
                refuse_other_data(path, saved["dataset"], data, told)
                _check_same_settings(saved, settings, str(path))
                _check_same_kernels(_environment(path), here, path)
                begun = trains(model) and (path / "best.pt").exists()
                if begun and not (path / "last.pt").exists():
                    raise RunError(f"{path / 'last.pt'}: no such checkpoint, the run cannot be resumed")
            else:
                check_new_run(path)
            yield cls(path, settings, here, resume)

    def begin(self, last: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Begin, or go on where ``last`` stands, which :meth:`load_last` read; the history so far.

        From here on the run is not finished. What a failure or a kill leaves can be begun or resumed.

        Raises:
            RunError: history.jsonl or best.pt does not go with ``last``; nothing is changed then.
        """
        history = [] if last is None else self._history_of(last)
        for name in ENDING:
            if (self.path / name).is_dir():
                raise RunError(f"{self.path / name}: a folder, expected a file")
        clear_leftovers(self.path)
        self._describe(len(history))
        spare, best = self.path / SPARE, self.path / "best.pt"
        if spare.exists():
            if best.exists() and last is not None and self._best_epoch() == last["state"]["best_epoch"]:
                spare.unlink()
            else:
                spare.replace(best)
        self.write_history(history)
        return history

    def _history_of(self, last: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The records of the epochs that last.pt has seen.

        Its best epoch must be among them, with the same figures, and best.pt be of that epoch or a later one.
        """
        state = last["state"]
        epoch, best_epoch = state["epoch"], state["best_epoch"]
        history = RunFiles(self.path).history(epoch) if epoch else []
        if epoch and not _was_evaluated(last, self.config["train"]):
            history[-1].pop("val", None)
        if best_epoch:
            if history[best_epoch - 1].get("val", {}) != state["best"]:
                where = f"{self.path / 'last.pt'}: state: best"
                raise RunError(f"{where}: not the figures of epoch {best_epoch} in history.jsonl")
            if (of := self._best_epoch()) < best_epoch:
                raise RunError(f"{self.path / 'best.pt'}: of epoch {of}, expected epoch {best_epoch} as in last.pt")
        return history

    def _best_epoch(self) -> int:
        return int(RunFiles(self.path).best(torch.device("cpu"))["epoch"])

    def _describe(self, epoch: int) -> None:
        """Write config.yaml and environment.json of a session after ``epoch``; the run is finished no longer."""
        try:
            with atomic_file(self.path / "config.yaml") as temporary:
                temporary.write_text(yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True), encoding="utf-8")
                for name in ENDING:  # now that it is certain that something can be written
                    (self.path / name).unlink(missing_ok=True)
            sessions = self.environment
            if self.resumed and (before := _environment(self.path)):
                again = {"after_epoch": epoch, **self.environment}
                sessions = {**before, "resumed": [*before.get("resumed", []), again]}
            write_text(self.path / "environment.json", json.dumps(sessions, indent=2) + "\n")
        except BaseException:
            if not self.resumed:
                for name in ("config.yaml", "environment.json"):
                    (self.path / name).unlink(missing_ok=True)
            raise

    def save_last(self, checkpoint: dict[str, Any]) -> None:
        settings = _plain({name: self.config[name] for name in ("model", "train")})
        self._save("last.pt", {"schema": SCHEMA, "settings": settings, **checkpoint})
        (self.path / SPARE).unlink(missing_ok=True)

    def load_last(self, device: torch.device) -> dict[str, Any] | None:
        """What last.pt holds, None where there is none.

        Raises:
            RunError: it is damaged, or config.yaml has other settings than it was written with.
        """
        if not (self.path / "last.pt").exists():
            return None
        last = RunFiles(self.path).last(device)
        if "settings" in last:
            saved = {key: {**self.config[key], **last["settings"][key]} for key in ("model", "train")}
            _check_same_settings(saved, self.config, f"{self.path / 'last.pt'}: was written by another run")
        return last

    def save_best(self, weights: dict[str, Tensor], epoch: int) -> None:
        """Write best.pt. What it held, if last.pt may know it as the best, is kept until the next last.pt."""
        last, best, spare = (self.path / name for name in ("last.pt", "best.pt", SPARE))
        if last.exists() and best.exists() and not spare.exists():
            try:
                os.link(best, spare)
            except OSError:  # a file system without links
                with atomic_file(spare) as temporary:
                    shutil.copyfile(best, temporary)
        fingerprint_ = self.config["dataset"]["fingerprint"]
        content = {"schema": SCHEMA, "fingerprint": fingerprint_, "epoch": epoch, "model": weights}
        self._save("best.pt", {**content, "settings": _plain(self.config["model"])})

    def load_best(self, device: torch.device, epoch: int) -> dict[str, Tensor]:
        """The weights of best.pt, which must be those of ``epoch``."""
        best = RunFiles(self.path).best(device)
        if best["epoch"] != epoch:
            raise RunError(
                f"{self.path / 'best.pt'}: weights of epoch {best['epoch']}, expected those of epoch {epoch}, the "
                "best so far; they are made again if the run goes on for more epochs"
            )
        weights: dict[str, Tensor] = best["model"]
        return weights

    def append_history(self, record: dict[str, Any]) -> None:
        append_text(self.path / "history.jsonl", json.dumps(record) + "\n")

    def write_history(self, records: Sequence[Mapping[str, Any]]) -> None:
        write_text(self.path / "history.jsonl", "".join(json.dumps(record) + "\n" for record in records))

    def write_metrics(self, best_epoch: int, val: dict[str, float], test: dict[str, float]) -> None:
        metrics = {
            "schema": SCHEMA,
            "dataset": self.config["dataset"]["name"],
            "model": self.config["model"]["name"],
            "seed": self.config["train"]["seed"],
            "best_epoch": best_epoch,
            "val": val,
            "test": test,
        }
        text = json.dumps(metrics, indent=2) + "\n"
        files = {name: file_sha256(self.path / name) for name in SEALED if (self.path / name).exists()}
        files["metrics.json"] = hashlib.sha256(text.encode()).hexdigest()
        write_text(self.path / SEAL_FILE, json.dumps({"schema": SCHEMA, "files": files}, indent=2) + "\n")
        write_text(self.path / "metrics.json", text)

    def _save(self, name: str, content: dict[str, Any]) -> None:
        with atomic_file(self.path / name) as temporary:
            torch.save(content, temporary)


def load_run(
    run: str | Path,
    *,
    data: HeteroData | None = None,
    device: torch.device | str = "cpu",
    model: nn.Module | None = None,
    **options: Any,
) -> tuple[Any, HeteroData]:
    """The trained model and the dataset of a run directory.

    A model called ``module:Class`` is imported, from the current folder or Python's path.

    Args:
        run: the directory.
        data: the dataset, where it is not to be loaded from where it was.
        device: where the model goes.
        model: what the weights are loaded into, for a class that cannot be imported, as one
            of a script; by default a model is built as config.yaml says.
        options: constructor options that a file cannot hold, such as ``encoder``.

    Raises:
        RunError: if the directory is not a run with weights, its model was trained on another dataset, config.yaml
            names another model or option than there are, or its files do not go together. That a run is not finished
            is logged.
    """
    run = Path(run)
    files = RunFiles(run)
    config = files.config()
    if data is None:
        if not config["dataset"]["source"]:
            raise RunError(f"{run}: trained on a dataset that was not loaded from a file; pass it as data")
        data = load_dataset(**config["dataset"]["source"])
    refuse_other_data(run, config["dataset"], data)
    best = files.best(torch.device("cpu"))
    _check_best(best, config, files)
    if not is_finished(run):
        found = f"not finished; its best weights so far are those of epoch {best['epoch']}"
        logging.getLogger("bm3_pyg.runs").warning("%s: %s", run, found)
    name = config["model"]["name"]
    if model is None:
        if name not in MODELS and not is_own(name):
            wrong = f"model: got {name!r}, {nearest(name, MODELS)}"
            raise RunError(f"{run / 'config.yaml'}: {wrong}; if it is a class of your own, pass one as model")
        model = _build(config["model"], data, run / "config.yaml", options)
    else:
        model = unwrapped(model)
        if name_of(model, name) != name:
            raise RunError(f"{run}: trained with {name}, got a {name_of(model)}")
    assert model is not None
    if "settings" in best:
        _check_trained_with(best["settings"], name, model, files.path)
    match_precision(model, best["model"])
    load_weights(model, best["model"], run / "best.pt")
    return model.to(device), data


def _check_best(best: dict[str, Any], config: dict[str, Any], files: RunFiles) -> None:
    """Raise :class:`RunError` unless best.pt is what config.yaml and metrics.json speak of."""
    path, section = files.path / "best.pt", config["model"]
    if not same_fingerprint(best["fingerprint"], config["dataset"]["fingerprint"]):
        raise RunError(f"{path}: trained on another dataset than config.yaml names")
    width = section["options"].get("embedding_dim")  # before anything of that size is made
    if width is not None and not any(width in getattr(weights, "shape", ()) for weights in best["model"].values()):
        raise RunError(f"{path}: does not fit config.yaml (no weights of embedding_dim {width})")
    if is_finished(files.path):
        files.check_epoch(best["epoch"])


def _build(section: dict[str, Any], data: HeteroData, path: Path, given: dict[str, Any]) -> Any:
    """The untrained model that a configuration's ``model`` section describes; ``given`` options go before its own.

    Options it does not name have their defaults.
    """
    try:
        known = option_names(section["name"])
        if not isinstance(section["options"], dict):
            raise ConfigError(f"options: got {section['options']!r}, expected a mapping")
        chosen = {**section["options"], **given}
        for key in chosen:
            if key not in known:
                raise ConfigError(unknown_key(str(key), section["name"], known))
        if isinstance(chosen.get("encoder"), str):
            raise RunError(f"{path.parent}: trained with the encoder {chosen['encoder']}; pass one as encoder")
        return model_named(section["name"]).from_data(data, **chosen)
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error


def _check_trained_with(settings: dict[str, Any], name: str, model: Any, run: Path) -> None:
    """Raise :class:`RunError` if best.pt tells of another model or option than was built from config.yaml."""
    own = _plain(getattr(model, "options", {}))
    pairs = [("name", settings["name"], name)]
    pairs += [(key, value, own.get(key, value)) for key, value in settings["options"].items() if key != "encoder"]
    for key, trained, found in pairs:
        if trained != found:
            raise RunError(
                f"{run / 'config.yaml'}: model: {key} is {shown(found)}, best.pt was trained with {shown(trained)}"
            )


def _was_evaluated(last: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether last.pt knows of an evaluation of its last epoch, which history.jsonl may have from just before a kill.

    An older last.pt does not say so. It can only have been kept from it where a run ends earlier than it was begun
    with, which is evaluated late, when it is resumed.
    """
    if "evaluated" in last:
        return bool(last["evaluated"])
    state, ends = last["state"], config["max_epochs"]
    earlier = state["epoch"] == ends != last.get("settings", {}).get("train", {}).get("max_epochs", ends)
    return not earlier or state["step"] > 0 or state["epoch"] % config["eval_every"] == 0


def _environment(run: Path) -> dict[str, Any]:
    """``environment.json`` of a run directory, empty where a kill came before it."""
    return RunFiles(run).environment() if (run / "environment.json").exists() else {}


def _plain(settings: Any) -> Any:
    """Settings as config.yaml gives them back: without tuples and the like."""
    try:
        return yaml.safe_load(yaml.safe_dump(settings))
    except yaml.YAMLError as error:
        raise ConfigError(f"model: options: expected plain values ({one_line(error)[:200]})") from None


def _settings(model: nn.Module, data: HeteroData, config: TrainConfig, fingerprint: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "dataset": {
            "name": getattr(data, "name", "dataset"),
            "source": getattr(data, "source", None),
            "fingerprint": fingerprint,
            "modalities": {name: feature.size(1) for name, feature in modalities(data).items()},
        },
        "model": {"name": name_of(model), "options": _plain(getattr(model, "options", {}))},
        "train": asdict(config),
    }


def _check_same_kernels(before: dict[str, Any], here: dict[str, Any], path: Path) -> None:
    """The same seed under other kernels is another run; runs older than the record of kernels are taken as they are."""
    was, found = before.get("kernels"), here["kernels"]
    if was not in (None, found):
        raise RunError(
            f"{path}: was trained with the kernels {was} on {before.get('device')}, found {found} on {here['device']}; "
            f"set BM3_KERNELS={was} to go on there"
        )


def _check_same_settings(saved: dict[str, Any], settings: dict[str, Any], where: str) -> None:
    for section in ("model", "train"):
        before, now = saved[section], settings[section]
        before, now = ({**s.get("options", {}), **s} for s in (before, now))
        for name in now.keys() - RESUMABLE - {"options"}:
            if before.get(name) != now[name]:
                raise RunError(f"{where}: {name} is {before.get(name)!r} there, got {now[name]!r}; cannot be resumed")
