from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from llvmlite.binding import get_host_cpu_features
from torch import Tensor

from bm3_pyg.errors import DataError
from bm3_pyg.ops import masked_topk
from bm3_pyg.ops.csr import CSR, offsets
from bm3_pyg.ops.topk import DotProducts, dot_topk


def twin(scores: Tensor, k: int, hidden: CSR, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Hide row by row, sort everything."""
    scores = scores.clone()
    for line, row in zip(scores, rows.tolist(), strict=True):
        line[hidden.indices[hidden.indptr[row] : hidden.indptr[row + 1]]] = -torch.inf
    values, ids = torch.sort(scores, dim=1, descending=True, stable=True)
    return values[:, :k], ids[:, :k]


def hidden_items(num_rows: int, num_items: int) -> CSR:
    """Some rows hide nothing, one hides everything."""
    counts = torch.randint(min(num_items, 30) + 1, (num_rows,))
    counts[0], counts[-1] = 0, num_items
    return CSR(offsets(counts), torch.cat([torch.randperm(num_items)[:c] for c in counts]))


@pytest.fixture(params=["numba", "torch"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", request.param)
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("k", [1, 20, 50, 300])
@pytest.mark.parametrize(("size", "num_items"), [(3, 1), (9, 16), (7, 41), (40, 1_003), (10, 7_050)])
def test_topk_is_its_sorted_twin(size: int, num_items: int, k: int, dtype: torch.dtype) -> None:
    hidden = hidden_items(99, num_items)
    rows = torch.cat([torch.tensor([98]), torch.randint(98, (size - 1,))])
    random = torch.randn(size, num_items, dtype=dtype)
    ladder = torch.arange(num_items, dtype=dtype).expand(size, -1)
    for scores in (random, random.mul(3).round(), torch.zeros_like(random), ladder, -ladder):
        result = masked_topk(scores.clone(), k, hidden, rows)
        expected = twin(scores, k, hidden, rows)
        assert result[0].shape == (size, min(k, num_items))
        assert torch.equal(result[0], expected[0])
        assert torch.equal(result[1], expected[1])


def test_rows_count_from_the_first_by_default() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    values, ids = masked_topk(scores, 2, CSR(torch.tensor([0, 0, 2]), torch.tensor([1, 2])))
    assert ids.tolist() == [[1, 2], [0, 1]]
    assert values.tolist() == [[3.0, 2.0], [1.0, -torch.inf]]


def test_scores_that_are_not_contiguous_and_no_rows() -> None:
    scores, nothing = torch.randn(30, 8).T, CSR(torch.zeros(9, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    expected = twin(scores, 5, nothing, torch.arange(8))
    assert torch.equal(masked_topk(scores, 5)[1], expected[1])
    assert torch.equal(masked_topk(scores, 5, nothing)[1], expected[1])
    assert masked_topk(torch.zeros(0, 4), 3)[0].shape == (0, 3)


def test_scores_that_are_not_numbers_do_no_harm() -> None:
    _, ids = masked_topk(torch.full((2, 40), torch.nan), 5)
    assert ids.min() >= 0
    assert ids.max() < 40


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="k = 0"):
        masked_topk(torch.zeros(1, 2), 0)
    with pytest.raises(DataError, match="1 rows for 2 rows of scores"):
        masked_topk(torch.zeros(2, 2), 1, rows=torch.tensor([0]))


def tables(kind: str, num_users: int, num_items: int, dim: int) -> tuple[Tensor, Tensor]:
    """Users and items whose dot products are exact in float32, so that ties are ties: sums of small integers."""
    users, items = (torch.randint(-9, 10, (size, dim)).float() for size in (num_users, num_items))
    if kind == "skewed":  # so that most panels are never looked at
        items *= 2.0 ** torch.randint(-6, 7, (num_items, 1))
    elif kind == "tied":
        items[num_items // 3 :] = items[0].clone()
    elif kind == "zero":
        users[::2], items[1::3] = 0, 0
    elif kind == "alike":
        users, items = torch.ones_like(users), torch.ones_like(items)
    return users, items


@pytest.mark.parametrize("kind", ["plain", "skewed", "tied", "zero", "alike"])
@pytest.mark.parametrize("k", [1, 20, 256])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (9, 33, 3), (300, 700, 16), (3, 5_000, 5)])
def test_fused_lists_are_those_of_all_scores(kind: str, k: int, sizes: tuple[int, int, int]) -> None:
    users, items = tables(kind, *sizes)
    hidden = hidden_items(sizes[0] + 1, sizes[1])
    hidden = CSR(
        hidden.indptr, torch.cat([hidden.indices[a:b].sort().values for a, b in hidden.indptr.unfold(0, 2, 1)])
    )
    rows = torch.randperm(sizes[0])
    for barred in (None, torch.rand(sizes[1]) < 0.4, torch.ones(sizes[1], dtype=torch.bool)):
        scores = (users.double() @ items.double().T)[rows]
        if barred is not None:
            scores[:, barred] = -torch.inf
        expected, order = twin(scores, k, hidden, rows)
        values, ids = dot_topk(DotProducts(users, items), rows, k, hidden, barred)
        assert torch.equal(values.double(), expected)
        assert torch.equal(ids[values > -torch.inf], order[expected > -torch.inf])


def test_fused_lists_of_close_scores_by_rounding_alone_differ() -> None:
    users, items = torch.randn(200, 64), torch.randn(3_000, 64)
    hidden, rows = CSR(torch.zeros(201, dtype=torch.long), torch.zeros(0, dtype=torch.long)), torch.arange(200)
    values, ids = dot_topk(DotProducts(users, items), rows, 50, hidden)
    exact = users.double() @ items.double().T
    torch.testing.assert_close(values.double(), exact.topk(50).values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(exact.gather(1, ids), values.double(), rtol=1e-5, atol=1e-5)


def test_fused_lists_leave_out_what_is_not_a_number() -> None:
    users, items = torch.randn(10, 4), torch.randn(90, 4)
    items[7], users[3] = torch.nan, torch.nan
    hidden = CSR(torch.zeros(11, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    values, ids = dot_topk(DotProducts(users, items), torch.arange(10), 90, hidden)
    assert (values[3] == -torch.inf).all()
    finite = [row for row in range(10) if row != 3]
    assert (values[finite] > -torch.inf).sum(1).tolist() == [89] * 9
    assert 7 not in ids[finite][:, :89]


@pytest.mark.long
@pytest.mark.parametrize("backend", ["numba"], indirect=True)
@pytest.mark.skipif(not get_host_cpu_features().get("avx512f"), reason="the other tests take these loops here")
def test_lists_of_a_processor_without_avx512(tmp_path: Path) -> None:
    script = f"""
import llvmlite.binding
import pytest
llvmlite.binding.get_host_cpu_features = dict
code = pytest.main(["-q", "-k", "fused", {__file__!r}])
from bm3_pyg.ops.numba_dots import ROWS, WIDTH
raise SystemExit(code or (ROWS, WIDTH) != (6, 16))
"""
    haswell = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=os.environ | haswell, check=True)


def test_what_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = DotProducts(torch.zeros(2, 3), torch.zeros(4, 3))
    monkeypatch.setenv("BM3_KERNELS", "torch")
    assert not scorer.fused(5)
    monkeypatch.setenv("BM3_KERNELS", "numba")
    assert scorer.fused(5)
    assert not scorer.fused(257)
    assert not DotProducts(scorer.users.double(), scorer.items.double()).fused(5)
