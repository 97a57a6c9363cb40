"""``bm3 import-checkpoint`` and ``bm3 export``: to and from other tools."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bm3_pyg.cli.checks import check_new
from bm3_pyg.cli.options import add_settings, add_source, add_verb, check_use, data_of_run, load, model_of_run, pairs
from bm3_pyg.errors import ConfigError, RunError


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
    command.add_argument(
        "--with-cold",
        action="store_true",
        help="embed a run's items without training interactions by their features (default: as they were initialised)",
    )
    command.set_defaults(device="cpu")


def _import_checkpoint(args: argparse.Namespace) -> None:
    from bm3_pyg.train.settings import TrainConfig, check_options, split_settings

    if not Path(args.checkpoint).is_file():
        found = "a folder" if Path(args.checkpoint).is_dir() else "no such file"
        raise RunError(f"{args.checkpoint}: {found}, expected a checkpoint")
    check_new(args.out)
    training, options = split_settings(args.settings)
    check_options("bm3", options)
    config, names = TrainConfig(**training), pairs(args.names, "--names")
    data = load(args)

    from bm3_pyg.study import metrics_table
    from bm3_pyg.train.official import import_checkpoint
    from bm3_pyg.train.run_files import RunFiles

    import_checkpoint(args.checkpoint, data, Path(args.out), config, options, names)
    metrics = RunFiles(Path(args.out)).metrics()
    print(metrics_table({split: metrics[split] for split in ("val", "test")}))
    print(args.out)


def _export(args: argparse.Namespace) -> None:
    from bm3_pyg.train.run_files import is_run

    of_run = is_run(Path(args.source))
    if of_run and args.format in ("mmrec", "ogb"):
        raise ConfigError(f"{args.source}: a run is exported as npy, parquet or faiss; {args.format} is for datasets")
    if not of_run and args.format == "faiss":
        raise ConfigError(f"{args.source}: not a run; faiss is for runs")
    check_new(args.out)
    if of_run:
        _export_run(args)
    else:
        data = load(args)

        from bm3_pyg.data import export_dataset

        export_dataset(data, Path(args.out), args.format)
    print(args.out)


def _export_run(args: argparse.Namespace) -> None:
    args.run_folder = args.source
    check_use(args)
    data = data_of_run(args)

    from bm3_pyg.serving.cold_start import cold_start_model
    from bm3_pyg.serving.embeddings import export_embeddings, export_faiss, warn_untrained

    model = cold_start_model(model_of_run(args, data), data, "with" if args.with_cold else "without")
    warn_untrained(data, args.with_cold)
    if args.format != "faiss":
        export_embeddings(model, data, Path(args.out), args.format)
        return
    for index in export_faiss(model, data, Path(args.out)):
        print(
            f"{index.index}: recall@20 {index.recall:.4f} against exact search, "
            f"{index.queries_per_second:,.0f} queries/s ({index.queries:,} users)"
        )
