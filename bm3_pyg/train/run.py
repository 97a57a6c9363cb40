"""A run's folder: what is written when, and what a kill leaves.

======== =================================================================================================
when     what is written, in this order
======== =================================================================================================
begin    metrics.json, seal.json and what was kept of a test go; config.yaml; environment.json; last.pt
epoch    if it is the best: best-of-last.pt, a link to what best.pt was, and best.pt; a line of history.jsonl;
         every ``checkpoint_seconds`` and at an interrupt last.pt, after which best-of-last.pt goes
end      last.pt; test_users.parquet, test_positives.parquet, beyond.json; environment.json, with the seconds of this
         session (at an interrupt too); seal.json; metrics.json
======== =================================================================================================

config.yaml holds every setting, environment.json versions, device, data hashes and seconds, history.jsonl a record an
epoch, best.pt the selected weights, last.pt all that a resume needs, seal.json the SHA-256 of the other files,
metrics.json the result. Each appears whole or not at all, so a kill leaves the folder between two of these steps. They
are made durable beside training, in this order (:class:`~bm3_pyg.train.writer.Writer`). What it is after a kill:

- With metrics.json the run is finished.
- Without, it is where last.pt says. best.pt and history.jsonl may be ahead of that: :meth:`RunFolder.begin` takes them
  back, best.pt to best-of-last.pt unless last.pt knows no best yet, history.jsonl to its first lines.
- Without last.pt nothing was trained, and it begins anew.

While a run is going on its folder is locked. Runs older than the seal have none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of, modalities
from bm3_pyg.data.content import file_sha256
from bm3_pyg.data.edges import count
from bm3_pyg.errors import RunError
from bm3_pyg.eval.users import BEYOND_FILE, POSITIVES_FILE, USERS_FILE
from bm3_pyg.files import append_text, atomic_file, clear_leftovers, locked_folder, write_text
from bm3_pyg.models import name_of
from bm3_pyg.protocols import trains
from bm3_pyg.timeline import part, recorded
from bm3_pyg.train.environment import environment
from bm3_pyg.train.plain import SCHEMA
from bm3_pyg.train.run_files import SEAL_FILE, RunFiles, check_new_run, read_config
from bm3_pyg.train.same_data import check_same_data, data_record
from bm3_pyg.train.settings import RESUMABLE, TrainConfig, plain_settings
from bm3_pyg.train.weights import kept_rows, unscored_tables, weights_without
from bm3_pyg.train.writer import Writer

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
    cold: Tensor
    """Items [n] without training interactions, ascending."""
    writer: Writer
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
        with part("read"):
            record = data_record(data)
        settings = _settings(model, data, config, record["fingerprint"])
        here = {**environment(model), **({"command": list(command)} if command else {}), "data": record}
        if resume:
            read_config(path)
        with locked_folder(path):
            if resume:
                saved = read_config(path)
                settings["model"]["name"] = name_of(model, saved["model"]["name"])
                check_same_data(path, saved["dataset"], data, record)
                _check_same_settings(saved, settings, str(path))
                _check_same_kernels(_environment(path), here, path)
                begun = trains(model) and (path / "best.pt").exists()
                if begun and not (path / "last.pt").exists():
                    raise RunError(f"{path / 'last.pt'}: no such checkpoint, the run cannot be resumed")
            else:
                check_new_run(path)
            cold = torch.ones(count(data, "item"), dtype=torch.bool)
            cold[edges_of(data, "train")[1]] = False
            with closing(Writer()) as writer:
                yield cls(path, settings, here, cold.nonzero().view(-1), writer, resume)
                writer.wait()

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
            if best.exists() and last is not None and last["state"]["best_epoch"] in (0, self._best_epoch()):
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

    @part("write")
    def save_last(self, checkpoint: dict[str, Any]) -> None:
        settings = plain_settings({name: self.config[name] for name in ("model", "train")})
        self.writer.save(self.path / "last.pt", {"schema": SCHEMA, "settings": settings, **checkpoint})
        self.writer.do(partial((self.path / SPARE).unlink, missing_ok=True))

    @part("read")
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

    @part("write")
    def save_best(self, model: nn.Module, epoch: int) -> None:
        """Write best.pt. What it held, if last.pt may know it as the best, is kept until the next last.pt."""
        tables = [] if self.config["train"]["save_features"] else unscored_tables(model)
        content = {
            "schema": SCHEMA,
            "fingerprint": self.config["dataset"]["fingerprint"],
            "epoch": epoch,
            "model": weights_without(model, tables),
            "settings": plain_settings(self.config["model"]),
            **({"kept": kept_rows(model, tables, self.cold)} if tables else {}),
        }
        self.writer.do(self._spare_best)
        self.writer.save(self.path / "best.pt", content)

    def _spare_best(self) -> None:
        last, best, spare = (self.path / name for name in ("last.pt", "best.pt", SPARE))
        if last.exists() and best.exists() and not spare.exists():
            try:
                os.link(best, spare)
            except OSError:  # a file system without links
                with atomic_file(spare) as temporary:
                    shutil.copyfile(best, temporary)

    @part("read")
    def load_best(self, device: torch.device, epoch: int) -> dict[str, Any]:
        """What best.pt holds, which must be of ``epoch``."""
        self.writer.wait(self.path / "best.pt")
        best = RunFiles(self.path).best(device)
        if best["epoch"] != epoch:
            raise RunError(
                f"{self.path / 'best.pt'}: weights of epoch {best['epoch']}, expected those of epoch {epoch}, the "
                "best so far; they are made again if the run goes on for more epochs"
            )
        return best

    @part("write")
    def append_history(self, record: dict[str, Any]) -> None:
        self.writer.do(partial(append_text, self.path / "history.jsonl", json.dumps(record) + "\n"))

    def write_history(self, records: Sequence[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(record) + "\n" for record in records)
        self.writer.do(partial(write_text, self.path / "history.jsonl", text))

    @part("write")
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
        self.writer.wait()
        files = {name: file_sha256(self.path / name) for name in SEALED if (self.path / name).exists()}
        self.write_seconds()
        files["environment.json"] = file_sha256(self.path / "environment.json")
        files["metrics.json"] = hashlib.sha256(text.encode()).hexdigest()
        write_text(self.path / SEAL_FILE, json.dumps({"schema": SCHEMA, "files": files}, indent=2) + "\n")
        write_text(self.path / "metrics.json", text)

    def write_seconds(self) -> None:
        """Add the seconds of this session, which is about to end, to environment.json."""
        self.writer.wait()
        sessions = _environment(self.path)
        with recorded() as timeline:
            (sessions.get("resumed") or [sessions])[-1].update(timeline.count())
        write_text(self.path / "environment.json", json.dumps(sessions, indent=2) + "\n")


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


def _settings(model: nn.Module, data: HeteroData, config: TrainConfig, fingerprint: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "dataset": {
            "name": getattr(data, "name", "dataset"),
            "source": getattr(data, "source", None),
            "fingerprint": fingerprint,
            "modalities": {name: feature.size(1) for name, feature in modalities(data).items()},
        },
        "model": {"name": name_of(model), "options": plain_settings(getattr(model, "options", {}))},
        "train": asdict(config),
    }


def _check_same_kernels(before: dict[str, Any], here: dict[str, Any], path: Path) -> None:
    """The same seed under other kernels is another run; runs older than the record of kernels are taken as they are."""
    was, now = before.get("kernels"), here["kernels"]
    if was not in (None, now):
        raise RunError(
            f"{path}: was trained with the kernels {was} on {before.get('device')}, found {now} on {here['device']}; "
            f"set BM3_KERNELS={was} to go on there"
        )


def _check_same_settings(saved: dict[str, Any], settings: dict[str, Any], where: str) -> None:
    for section in ("model", "train"):
        before, now = saved[section], settings[section]
        before, now = ({**s.get("options", {}), **s} for s in (before, now))
        for name in now.keys() - RESUMABLE - {"options"}:
            if before.get(name) != now[name]:
                raise RunError(f"{where}: {name} is {before.get(name)!r} there, got {now[name]!r}; cannot be resumed")
