"""The peak memory of a whole training command, beside a plain program that does the same.

    python benchmarks/speed/memory.py --size baby --epochs 6

runs ``bm3 train``, the same with frozen features, and a plain BM3 (reference.py), each in a process of its own: load,
train, rank the validation split after each epoch, write the selected weights and a checkpoint, test. Printed are peaks
of resident memory (pages mapped from files included) above that of a process which has imported the same and is idle.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from run import BATCH, PUBLISHED, _peak_mb, load  # type: ignore[import-not-found]  # imports bm3_pyg before torch

SIDES = ("idle", "plain", "ours", "frozen")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(PUBLISHED), default="demo", help="planted data of this size (demo)")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--sides", nargs="+", choices=SIDES[1:], default=SIDES[1:], help="what to measure (all)")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(peak_of(args.child, args.size, args.epochs))
        return 0
    load(args.size)  # what is slow to make is then in the cache
    peaks = {side: _measured(side, args) for side in ("idle", *args.sides)}
    print(f"{args.size}, {args.epochs} epochs: idle {peaks['idle']:,.0f} MiB")
    for side in args.sides:
        above = peaks[side] - peaks["idle"]
        ratio = f", {above / (peaks['plain'] - peaks['idle']):.2f} of plain" if "plain" in peaks else ""
        print(f"{side:>8} {peaks[side]:8,.0f} MiB in all, {above:8,.0f} above idle{ratio}")
    return 0


def peak_of(side: str, size: str, epochs: int) -> float:
    """Peak MiB of this process, which does all that ``side`` does."""
    with tempfile.TemporaryDirectory() as folder:
        if side == "idle":
            import bm3_pyg.cli.runs
            import bm3_pyg.ops.numba_kernels
            import bm3_pyg.study
            import bm3_pyg.train.loop  # noqa: F401
        elif side == "plain":
            _train_plainly(size, epochs, Path(folder))
        else:
            from bm3_pyg.cli import main as bm3

            name, (layers, dropout, reg_weight) = size if size == "demo" else f"planted-{size}", PUBLISHED[size]
            options = [f"num_layers={layers}", f"dropout={dropout}", f"reg_weight={reg_weight}"]
            options += [f"max_epochs={epochs}", f"freeze_features={str(side == 'frozen').lower()}"]
            if bm3(["train", name, "--out", f"{folder}/run", "--device", "cpu", "--set", *options]):
                raise SystemExit(f"{side}: bm3 train failed")
        return float(_peak_mb())


def _train_plainly(size: str, epochs: int, folder: Path) -> None:
    import torch
    from reference import ReferenceBM3, ReferenceEvaluation  # type: ignore[import-not-found]

    data = load(size)
    edges = data["user", "rates", "item"]
    model = ReferenceBM3(data, *PUBLISHED[size])
    optimizer, best = torch.optim.Adam(model.parameters(), lr=1e-3), -1.0
    test = ReferenceEvaluation(data)
    edges.test_edge_index, tested = edges.val_edge_index, edges.test_edge_index
    validation = ReferenceEvaluation(data)
    edges.test_edge_index = tested
    for _ in range(epochs):
        for batch in torch.randperm(edges.edge_index.size(1)).split(BATCH):
            users, items = edges.edge_index[:, batch]
            model.loss(users, items).backward()
            optimizer.step()
            optimizer.zero_grad()
        if (recall := validation.run(model)["recall@20"]) > best:
            best = recall
            torch.save(model.state_dict(), folder / "best.pt")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "last.pt")
    model.load_state_dict(torch.load(folder / "best.pt"))
    test.run(model)


def _measured(side: str, args: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--child", side, "--size", args.size, "--epochs", str(args.epochs)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{side}: the measuring process failed\n{result.stderr}")
    return float(result.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
