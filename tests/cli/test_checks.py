"""Wrong input is told before PyTorch is loaded, whatever the command: nobody waits for it to hear of a typing error."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]

CASES = {
    "": "COMMAND",
    "fly": "invalid choice: 'fly'",
    "models gcn": "invalid choice: 'gcn'",
    "train": "expected a dataset",
    "train dmo": "dmo: no such file",
    "train demo --model gcn": "invalid choice: 'gcn'",
    "train demo --model gcn --help": "invalid choice: 'gcn'",
    "train demo --set num_layer=2": "unknown key 'num_layer', did you mean 'num_layers'?",
    "train demo --model popularity --set lrr=2": "unknown key 'lrr'",
    "train demo --set num_layers": "expected KEY=VALUE",
    "train demo --set num_layers=two": "num_layers: got 'two'",
    "train demo --set num_layers=1 num_layers=2": "got num_layers twice",
    "train demo --set num_layers=100000": "num_layers: got 100000, expected an integer at least 0 and below 101",
    "train demo --set embedding_dim=1000000": "embedding_dim: got 1000000, expected an integer at least 1 and",
    "train demo --model freedom --set neighbours=0": "neighbours: got 0",
    "train demo --set batch_size=0": "batch_size: got 0",
    "train demo --set mask=all": "mask: got 'all'",
    "train demo --seed -1": "--seed: got -1",
    "train demo --seed 99999999999999999999": "--seed: got 99999999999999999999",
    "train demo --core 0 --split-seed 1": "--core: got 0",
    "train demo --split-seed x": "--split-seed: got 'x'",
    "train demo --device gpu": "--device: got 'gpu'",
    "train demo --preset plus --model vbpr": "--preset: is for bm3",
    "train demo --split time": "split: is for",
    "train demo --resume": "expected --out",
    "train demo --resume --out nowhere": "nowhere: not a run directory",
    "train demo --resume --out broken": "config.yaml",
    "train demo --out run": "run: exists already",
    "train demo --out file/run": "file/run: cannot be written",
    "train clicks.csv --user-column who": "no column 'who'",
    "train clicks.csv --features image=no.npy": "no.npy: no such file",
    "train clicks.csv --features image": "expected NAME=VALUE",
    "train clicks.csv --features image=short.npy": "short.npy",
    "train clicks.csv --features eval=short.npy": "'eval' cannot name a modality",
    "train clicks.csv --items no.txt": "no.txt: no such file",
    "train broken.csv": "broken.csv",
    "train empty": "found 0 .inter files",
    "train noinit.xyz": "noinit.xyz: no such file",
    "evaluate nowhere": "nowhere: not a run directory",
    "evaluate broken": "config.yaml",
    "evaluate begun": "begun/best.pt: no such checkpoint",
    "evaluate run --k ten": "expected integers such as 10,20",
    "evaluate run --k 0": "--k: got 0",
    "evaluate run --k 5,99999999999": "--k: got 99999999999",
    "evaluate run --split all": "invalid choice: 'all'",
    "evaluate run --sampled 0": "--sampled: got 0",
    "evaluate run --sampled 5 --k 5": "--k: got it with --sampled",
    "evaluate run --candidates no.txt": "no.txt: no such file",
    "evaluate run --candidates empty.txt": "empty.txt",
    "evaluate run --device cuda:x": "--device: got 'cuda:x'",
    "evaluate run --data nodata": "nodata: no such file",
    "recommend nowhere": "nowhere: not a run directory",
    "recommend run --users no.txt": "no.txt: no such file",
    "recommend run --users empty": "empty",
    "recommend run --candidates no.txt": "no.txt: no such file",
    "recommend run --new-users no.csv": "no.csv: no such file",
    "recommend run --new-users clicks.csv --cold": "--new-users: got it with",
    "recommend run --new-users other.csv": "say what yours is called (--user-column)",
    "recommend run --out lists.xlsx": "lists.xlsx: got suffix '.xlsx'",
    "recommend run --out file/lists.csv": "file/lists.csv: cannot be written",
    "recommend run --k -3": "--k: got -3",
    "recommend run --k 99999999999": "--k: got 99999999999",
    "recommend run --cold --with-cold": "not allowed with",
    "similar run": "--items",
    "similar run --items no.txt": "no.txt: no such file",
    "similar run --items ids.txt --k 0": "--k: got 0",
    "similar run --items ids.txt --out s.txt": "s.txt: got suffix '.txt'",
    "similar nowhere --items ids.txt": "nowhere: not a run directory",
    "sweep demo": "--out",
    "sweep demo --out s --grid x=1": "has a setting 'x'",
    "sweep demo --out s --grid num_layers": "expected KEY=VALUE",
    "sweep demo --out s --grid num_layers=1,300": "num_layers: got 300",
    "sweep demo --out s --grid num_layers=1,1": "stands twice in the grid",
    "sweep demo --out s --set lrr=1": "unknown key 'lrr'",
    "sweep demo --out s --seeds 0": "--seeds: got 0",
    "sweep demo --out s --seeds 999999999999": "--seeds: got 999999999999",
    "sweep demo --out s --jobs 0": "--jobs: got 0",
    "sweep demo --out s --jobs 999999999999": "--jobs: got 999999999999",
    "sweep demo --out s --random 0": "--random: got 0",
    "sweep demo --out s --models gcn": "invalid choice: 'gcn'",
    "sweep demo --out s --preset published --grid lr=1": "expected one of them",
    "sweep demo --out s --preset ablation --models vbpr": "is for bm3 alone",
    "sweep demo --out file/s": "file/s: cannot be written",
    "sweep nodata --out s": "nodata: no such file",
    "sweep demo --out s --device tpu": "--device: got 'tpu'",
    "report nowhere --out r.html": "nowhere: no such folder",
    "report empty --out r.html": "no finished run",
    "report run --out r.txt": "r.txt: got suffix '.txt'",
    "report run --out file/r.html": "file/r.html: cannot be written",
    "report run --out none/r.html": "none/r.html: no folder none, expected one that exists",
    "report run --out r.html --data nodata": "nodata: no such file",
    "import-checkpoint no.pth --data demo --out new": "no.pth: no such file",
    "import-checkpoint empty --data demo --out new": "empty: a folder",
    "import-checkpoint file --data demo --out run": "run: exists already",
    "import-checkpoint file --data demo --out new --set lrr=1": "unknown key 'lrr'",
    "import-checkpoint file --data demo --out new --names a": "expected NAME=VALUE",
    "import-checkpoint file --data nodata --out new": "nodata: no such file",
    "export nowhere --format npy --out new": "nowhere: no such file",
    "export demo --format xml --out new": "invalid choice: 'xml'",
    "export demo --format faiss --out new": "faiss is for runs",
    "export run --format ogb --out new": "ogb is for datasets",
    "export run --format npy --out run": "run: exists already",
    "export run --format npy --out file/new": "file/new: cannot be written",
    "export begun --format npy --out new": "begun/best.pt: no such checkpoint",
    "data": "COMMAND",
    "data describe nodata": "nodata: no such file",
    "data describe demo --picture p.gif": "p.gif: got suffix '.gif'",
    "data describe demo --picture none/p.png": "none/p.png: no folder none, expected one that exists",
    "data describe broken.csv": "broken.csv",
    "data prepare": "expected either a NAME",
    "data prepare toys": "invalid choice: 'toys'",
    "data prepare baby --core -1": "--core: got -1",
    "data prepare baby --seed x": "--seed: got 'x'",
    "data prepare baby --from nowhere": "nowhere: no such folder",
    "data prepare baby --interactions clicks.csv": "expected either a NAME",
    "data prepare --interactions no.csv --out new": "no.csv: no such file",
    "data prepare --interactions clicks.csv": "expected --out",
    "data prepare --interactions clicks.csv --out new --items no.csv": "no.csv: no such file",
    "data prepare --interactions clicks.csv --out new --text-columns title": "text_columns",
}

SCRIPT = """
import contextlib, io, json, shlex, sys
from bm3_pyg.cli import main
for case in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(shlex.split(case))
        except SystemExit as stop:
            code = stop.code
    loaded = "torch" in sys.modules
    print(json.dumps([case, code, out.getvalue(), err.getvalue(), loaded]), flush=True)
    if loaded:
        break
"""


@pytest.fixture(scope="module")
def place(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(trained, place / "run")
    for name, files in (("begun", ["config.yaml"]), ("broken", ["config.yaml", "best.pt", "last.pt"])):
        (place / name).mkdir()
        for file in files:
            shutil.copy(trained / file, place / name)
    (place / "broken/config.yaml").write_bytes(b"\xff" + b"[" * 100_000)
    (place / "empty").mkdir()
    (place / "file").write_text("x")
    (place / "empty.txt").write_text("\n")
    (place / "ids.txt").write_text("1\n2\n")
    (place / "clicks.csv").write_text("user,item\na,x\nb,y\n")
    (place / "other.csv").write_text("a,b,c\n1,2,3\n")
    (place / "broken.csv").write_bytes(b"user,item\na,x\n\xff,y\n")
    (place / "short.npy").write_bytes(b"\x93NUMPY")
    return place


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, tuple[int, str, str, bool]]:
    """What each command of :data:`CASES` ended with, all run in one process as long as PyTorch is not loaded."""
    found: dict[str, tuple[int, str, str, bool]] = {}
    while left := [case for case in CASES if case not in found]:
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=place,
            input=json.dumps(left),
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.stdout, process.stderr
        for line in process.stdout.splitlines():
            case, *result = json.loads(line)
            found[case] = tuple(result)
    return found


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_one_line_before_pytorch_is_loaded(
    told: dict[str, tuple[int, str, str, bool]], case: str
) -> None:
    code, out, err, loaded = told[case]
    assert code == 2, err
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert CASES[case] in err
    assert not loaded


def test_every_command_is_among_the_cases() -> None:
    from bm3_pyg.cli import _parser

    verbs = _parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert {shlex.split(case)[0] for case in CASES if case} >= set(verbs or ())


def test_a_name_that_is_not_utf_8(bm3: Run, assert_refused: Refused) -> None:
    assert_refused(bm3("train", "demo", "--out", "bad\udcff"), r"bad\udcff: cannot be written (the name is not UTF-8)")
