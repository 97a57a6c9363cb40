"""The floors of the house, as docs/architecture.md has them: imports lead down, and nowhere in a circle."""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bm3_pyg

PACKAGE = Path(bm3_pyg.__file__).parent
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / page for page in ("docs/architecture.md", "CONTRIBUTING.md")]


def floors_in(page: str) -> list[list[str]]:
    """The rooms of each floor from the top down, as a page's table has them."""
    table = page.partition("| floor |")[2].partition("\n\n")[0]
    return [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[2:]]


FLOORS = floors_in(PAGES[0].read_text(encoding="utf-8"))
FLOOR = {room: len(FLOORS) - i for i, rooms in enumerate(FLOORS) for room in rooms}
NAMES_ALONE = {"bm3_pyg"}  # bm3_pyg/__init__.py: public names, from wherever they are


def imports_of(path: Path, root: Path = PACKAGE) -> Iterator[str]:
    """The modules of the package that a file imports, at its top or inside functions, for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == root.name:
            for alias in node.names:
                yield module_of(f"{node.module}.{alias.name}", root)
        elif isinstance(node, ast.Import):
            yield from (module_of(alias.name, root) for alias in node.names if alias.name.split(".")[0] == root.name)


def module_of(name: str, root: Path) -> str:
    """``name``, or the module that it is a name of."""
    path = root.parent.joinpath(*name.split("."))
    return name if path.is_dir() or path.with_suffix(".py").is_file() else name.rpartition(".")[0]


def imports_within(root: Path) -> dict[str, set[str]]:
    """Every module of a package with those of the package that it imports."""
    return {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): {
            *imports_of(path, root)
        }
        for path in sorted(root.rglob("*.py"))
    }


def rises(imports: dict[str, set[str]]) -> list[str]:
    """Imports that lead up."""
    return [
        f"{module} imports {imported}"
        for module, others in imports.items()
        for imported in sorted(others)
        if not NAMES_ALONE & {module, imported} and not _leads_down(module.split(".")[1], imported.split(".")[1])
    ]


def _leads_down(room: str, other: str) -> bool:
    return room == other or FLOOR[room] > FLOOR[other]


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, and the last the first; empty if there are none."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for imported in sorted(imports.get(module, ())):
            if found := walk(imported, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in imports if (found := walk(module, []))), [])


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert rooms - {"__init__"} == set(FLOOR)


def test_no_import_leads_up() -> None:
    assert rises(imports_within(PACKAGE)) == []


def test_no_circle_of_imports() -> None:
    imports = imports_within(PACKAGE)
    assert circle({module: others - {module} for module, others in imports.items()}) == []


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ({"bm3_pyg.ops.a": {"bm3_pyg.data.b"}}, ["bm3_pyg.ops.a imports bm3_pyg.data.b"]),
        ({"bm3_pyg.names": {"bm3_pyg.files"}}, ["bm3_pyg.names imports bm3_pyg.files"]),
        ({"bm3_pyg.data.a": {"bm3_pyg.ops.b", "bm3_pyg.data.c"}}, []),
    ],
)
def test_a_rise_is_seen(imports: dict[str, set[str]], expected: list[str]) -> None:
    assert rises(imports) == expected


def test_a_circle_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "house"
    root.mkdir()
    (root / "__init__.py").touch()
    (root / "a.py").write_text("def f():\n    from house import b\n")
    (root / "b.py").write_text("from house.c import x\n")
    (root / "c.py").write_text("import house.a\nx = 1\n")
    assert circle(imports_within(root)) == ["house.a", "house.b", "house.c"]
    (root / "c.py").write_text("x = 1\n")
    assert circle(imports_within(root)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"`(bm3_pyg(?:\.\w+)+)`", text)
    assert names
    for name in names:
        assert pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")], ids=lambda page: page.name)
def test_links_and_paths_of_a_page_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    paths = re.findall(r"`((?:tests|benchmarks|examples|docs|bm3_pyg)/[\w/.]+)`", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("path", [*PACKAGE.rglob("*.py")], ids=lambda path: ".".join(path.parts[-2:]))
def test_what_a_docstring_refers_to_is_there(path: Path) -> None:
    pattern = r":(?:class|func|mod|meth|data|attr):`~?(bm3_pyg(?:\.\w+)*)`"
    for name in re.findall(pattern, path.read_text(encoding="utf-8")):
        assert pkgutil.resolve_name(name) is not None
