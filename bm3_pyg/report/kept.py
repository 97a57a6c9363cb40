"""Per-user values of runs: read from their folders, or made anew where a run lacks them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from torch_geometric.data import HeteroData

from bm3_pyg.data import fingerprint, load_dataset, same_fingerprint
from bm3_pyg.errors import BM3Error, RunError, WriteError
from bm3_pyg.eval.users import write_user_metrics
from bm3_pyg.files import atomic_file
from bm3_pyg.report.gather import Run
from bm3_pyg.report.rows import Group
from bm3_pyg.train.run import load_run
from bm3_pyg.train.run_files import RunFiles


@dataclass(frozen=True)
class Values:
    """What :func:`bm3_pyg.eval.users.write_user_metrics` keeps of a run."""

    users: pl.DataFrame
    positives: pl.DataFrame
    beyond: dict[str, float]


class Kept:
    """Reads runs' values and datasets, each once; what cannot be had is noted in ``warnings``."""

    def __init__(self, data: HeteroData | None, warnings: list[str]) -> None:
        self.warnings = warnings
        self._datasets: dict[str, HeteroData | None] = {} if data is None else {fingerprint(data): data}
        self._values: dict[Path, Values | None] = {}

    def dataset(self, run: Run) -> HeteroData | None:
        """The dataset that a run was made on, None where it is not to be had."""
        wanted = run.dataset["fingerprint"]
        known = next((one for one in self._datasets if same_fingerprint(one, wanted)), wanted)
        if known not in self._datasets:
            self._datasets[known] = self._load(run)
        return self._datasets[known]

    def values(self, run: Run) -> Values | None:
        """The values of a run, None where they are not to be had."""
        if run.folder not in self._values:
            self._values[run.folder] = self._read_or_make(run)
        return self._values[run.folder]

    def users(self, group: Group, seeds: Sequence[int]) -> pl.DataFrame | None:
        """Values of the users of a group [n rows], mean over its runs of these seeds, in the order of the users."""
        found = [self.values(run) for run in group.runs if run.seed in seeds]
        tables = [values.users for values in found if values is not None]
        if not tables or len(tables) < len(found):
            return None
        return pl.concat(tables).group_by("user").mean().sort("user")

    def positives(self, group: Group) -> pl.DataFrame | None:
        """Likewise of the positives of all its runs; ``hit`` is the share of seeds that hit."""
        found = [values for run in group.runs if (values := self.values(run)) is not None]
        if not found or len(found) < len(group.runs):
            return None
        tables = pl.concat([values.positives.with_columns(pl.col("hit").cast(pl.Float64)) for values in found])
        return tables.group_by("user", "item").mean().sort("user", "item")

    def _load(self, run: Run) -> HeteroData | None:
        name, source = run.dataset["name"], run.dataset["source"]
        try:
            if not source:
                raise RunError("it was not loaded from a file")
            data = load_dataset(**source)
            if not same_fingerprint(run.dataset["fingerprint"], fingerprint(data)):
                raise RunError("it has changed since")
        except (BM3Error, OSError, TypeError) as error:
            reason = str(error).replace(f"{Path(str((source or {}).get('source', ''))).parent}/", "")
            self.warnings.append(f"{name}: the dataset of {run.name} is not at hand ({reason})")
            return None
        return data

    def _read_or_make(self, run: Run) -> Values | None:
        try:
            return self._values_of(run)
        except BM3Error as error:
            reason = str(error).replace(f"{run.folder}", run.name)
            self.warnings.append(f"{run.name}: no per-user values, so no test ({reason})")
            return None

    def _values_of(self, run: Run) -> Values | None:
        files = RunFiles(run.folder)
        if (tables := files.tables()) is not None:
            return Values(*tables)
        if not run.metrics["test"] or (data := self.dataset(run)) is None:
            return None
        model, _ = load_run(run.folder, data=data)
        with tempfile.TemporaryDirectory() as spare:
            write_user_metrics(model, data, spare, run.mask)
            if (tables := RunFiles(Path(spare)).tables()) is None:
                return None
            files.check_test(run.metrics["test"], tables[0], run.environment)
            with suppress(OSError, WriteError):  # somebody else's folder
                for file in Path(spare).iterdir():
                    with atomic_file(run.folder / file.name) as temporary:
                        shutil.copyfile(file, temporary)
        return Values(*tables)
