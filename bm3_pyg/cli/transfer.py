"""``bm3 import-checkpoint`` and ``bm3 export``: to and from other tools."""

from __future__ import annotations

import argparse
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
    command.add_argument(
        "--format",
        choices=["mmrec", "ogb", "npy", "parquet", "faiss"],
        required=True,
        help="mmrec and ogb are for datasets, faiss is for runs, npy and parquet for both",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    command.add_argument("--data", metavar="PATH", help="the dataset of a run, if it has moved since")
    command.add_argument("--cold", action="store_true", help="embed a run's items without interactions by features")


def _import_checkpoint(args: argparse.Namespace) -> None:
    from bm3_pyg.report import metrics_table
    from bm3_pyg.train import TrainConfig
    from bm3_pyg.train.official import import_checkpoint
    from bm3_pyg.train.run_files import RunFiles
    from bm3_pyg.train.settings import split_settings

    training, options = split_settings(args.settings)
    data = load(args)
    names = pairs(args.names, "--names")
    import_checkpoint(args.checkpoint, data, Path(args.out), TrainConfig(**training), options, names)
    metrics = RunFiles(Path(args.out)).metrics()
    print(metrics_table({split: metrics[split] for split in ("val", "test")}))
    print(args.out)


def _export(args: argparse.Namespace) -> None:
    from bm3_pyg.data import export_dataset
    from bm3_pyg.train.run_files import is_run

    if is_run(Path(args.source)):
        if args.format in ("mmrec", "ogb"):
            raise ConfigError(
                f"{args.source}: a run is exported as npy, parquet or faiss; {args.format} is for datasets"
            )
        _export_run(args)
    else:
        if args.format == "faiss":
            raise ConfigError(f"{args.source}: not a run; faiss is for runs")
        export_dataset(load(args), Path(args.out), args.format)
    print(args.out)


def _export_run(args: argparse.Namespace) -> None:
    from bm3_pyg.eval import with_cold_items
    from bm3_pyg.train import load_run
    from bm3_pyg.train.export import export_embeddings
    from bm3_pyg.train.faiss_export import export_faiss

    args.run_folder = args.source
    model, data = load_run(args.source, data=override(args))
    if args.cold:
        model = with_cold_items(model, data)
    if args.format != "faiss":
        export_embeddings(model, data, Path(args.out), args.format)
        return
    for index in export_faiss(model, data, Path(args.out)):
        print(
            f"{index.index}: recall@20 {index.recall:.4f} against exact search, "
            f"{index.queries_per_second:,.0f} queries/s ({index.queries:,} users)"
        )
