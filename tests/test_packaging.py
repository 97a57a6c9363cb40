"""What is imported is declared, what is declared has a version for development."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg")
DISTRIBUTIONS = {"yaml": "pyyaml", "faiss": "faiss-cpu"}
WITH_PYTORCH = {"triton"}  # its CUDA builds bring their own
PEERS = {"implicit", "cornac"}  # what benchmarks/speed/peers.py compares with; its docstring says how to install them


def declared(text: str) -> set[str]:
    """Names in a list of requirements or constraints, as package indices compare them."""
    names = re.findall(r"^ *([A-Za-z][\w.-]*)", text, flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


CORE = declared(SETUP["options"]["install_requires"])
EXTRAS = {name: declared(text) for name, text in SETUP["options.extras_require"].items()}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "find_spec", "importorskip"):
                yield str(node.args[0].value)


def undeclared(folder: str, packages: set[str]) -> set[str]:
    found = set()
    homes = [ROOT / "benchmarks", ROOT / "benchmarks/speed"]  # where pytest looks too
    for file in (ROOT / folder).rglob("*.py"):
        for name in {module.split(".")[0] for module in imported(file)} - sys.stdlib_module_names:
            ours = name in ("bm3_pyg", "tests") or any(
                (home / name).is_dir() or (home / f"{name}.py").is_file() for home in (file.parent, *homes)
            )
            distribution = DISTRIBUTIONS.get(name, name.replace("_", "-"))
            if not ours and distribution not in packages | WITH_PYTORCH:
                found.add(f"{file.relative_to(ROOT)}: {name}")
    return found


def test_the_package_imports_what_it_declares() -> None:
    extras = set().union(*(names for extra, names in EXTRAS.items() if extra != "dev"))
    assert undeclared("bm3_pyg", CORE | extras) == set()


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_development_imports_what_it_declares(folder: str) -> None:
    assert undeclared(folder, CORE.union(PEERS, *EXTRAS.values())) == set()


def test_an_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    import urllib3.util\n    importlib.import_module('torch_x.y')\n")
    assert set(imported(tmp_path / "a.py")) == {"urllib3.util", "torch_x.y"}


def test_every_package_has_a_version_for_development() -> None:
    pinned = declared((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert CORE.union(*EXTRAS.values()) - pinned == set()
