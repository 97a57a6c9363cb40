"""``bm3 import-checkpoint`` and ``bm3 export``: to and from other tools."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bm3_pyg.cli.options import add_settings, add_source, add_verb, load, override, pairs
from bm3_pyg.errors import ConfigError


def add_transfer(verbs: Any) -> None:
    """The commands that read and write other tools' files."""
    command = add_verb(
        verbs,
        "import-checkpoint",
        _import_checkpoint,
        "make a run of weights trained with the authors' code or MMRec",
        "bm3 import-checkpoint BM3-best.pth --data data/baby --out runs/baby-official",
    )
    command.add_argument("checkpoint", help="the .pth file")
    add_source(command, flag="--data")
    command.add_argument("--out", metavar="RUN", required=True, help="folder of the run")
    command.add_argument(
        "--names", nargs="+", action="extend", metavar="THEIRS=OURS", help="modality names, e.g. text=audio"
    )
    add_settings(command)

    command = add_verb(
        verbs,
        "export",
        _export,
        "write a dataset, or the embeddings of a run, for other tools",
        "bm3 export runs/baby --format npy --out embeddings",
    )
    add_source(command)
    command.add_argument("--format", choices=["mmrec", "npy", "parquet"], required=True)
    command.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    command.add_argument("--data", metavar="PATH", help="the dataset of a run, if it has moved since")


def _import_checkpoint(args: argparse.Namespace) -> None:
    from bm3_pyg.report import metrics_table
    from bm3_pyg.train import TrainConfig
    from bm3_pyg.train.official import import_checkpoint
    from bm3_pyg.train.settings import split_settings

    training, options = split_settings(args.settings)
    data = load(args)
    names = pairs(args.names, "--names")
    import_checkpoint(args.checkpoint, data, Path(args.out), TrainConfig(**training), options, names)
    metrics = json.loads((Path(args.out) / "metrics.json").read_text(encoding="utf-8"))
    print(metrics_table({split: metrics[split] for split in ("val", "test")}))
    print(args.out)


def _export(args: argparse.Namespace) -> None:
    from bm3_pyg.data import export_dataset
    from bm3_pyg.train import load_run
    from bm3_pyg.train.export import export_embeddings

    if args.source is not None and (Path(args.source) / "config.yaml").is_file():
        if args.format == "mmrec":
            raise ConfigError(f"{args.source}: a run is exported as npy or parquet, mmrec is for datasets")
        args.run_folder = args.source
        export_embeddings(*load_run(args.source, data=override(args)), Path(args.out), args.format)
    else:
        export_dataset(load(args), Path(args.out), args.format)
    print(args.out)
