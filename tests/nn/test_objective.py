"""The objective alone, on whole tables, against the equations written out for each interaction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import cosine_similarity

from bm3_pyg.errors import ConfigError
from bm3_pyg.nn import BootstrapObjective
from bm3_pyg.nn.objective import Batch


@pytest.mark.parametrize("size", [1, 9])
def test_losses_are_means_over_the_interactions(size: int) -> None:
    torch.manual_seed(size)
    objective = BootstrapObjective(4, ("image",), dropout=0.25, reg_weight=0.3, align_weight=1.5).double()
    user, item, image = (torch.randn(n, 4, dtype=torch.float64) for n in (5, 6, 6))
    users, items = torch.randint(5, (size,)), torch.randint(6, (size,))
    masks = {name: torch.rand(n, 4) >= 0.25 for name, n in (("user", 5), ("item", 6), ("image", 6))}
    found = objective(user, item, {"image": image}, users, items, masks=masks)
    f = objective.predictor
    targets = {n: x * masks[n] / 0.75 for n, x in (("user", user), ("item", item), ("image", image))}
    sums = torch.zeros(3, dtype=torch.float64)
    for u, i in zip(users, items, strict=True):
        sums[0] += 2 - cosine_similarity(f(user[u]), targets["item"][i], dim=0)
        sums[0] -= cosine_similarity(f(item[i]), targets["user"][u], dim=0)
        sums[1] += 1 - cosine_similarity(f(image[i]), targets["item"][i], dim=0)
        sums[2] += 1 - cosine_similarity(f(image[i]), targets["image"][i], dim=0)
    rec, align, mask = sums / size
    reg = (user.norm() + item.norm()) / 6
    none = torch.zeros_like(rec)
    expected = torch.stack([rec + 1.5 * (align + mask) + 0.3 * reg, rec, align, mask, reg, none, none])
    torch.testing.assert_close(torch.stack(found), expected)


@pytest.mark.parametrize("size", [1, 9])
def test_terms_beyond_the_paper_are_means_over_the_interactions(size: int) -> None:
    """Two interactions of one node, its pair with itself, and a second modality count in every mean."""
    torch.manual_seed(size)
    names = ("image", "text")
    weights = {"mask_weight": 0.7, "mirror_weight": 0.4, "uniformity_weight": 0.6}
    objective = BootstrapObjective(4, names, dropout=0.25, reg_weight=0.3, align_weight=1.5, **weights).double()
    tables = [torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (5, 6, 6, 6)]
    user, item, *latents = tables
    users, items = torch.randint(5, (size,)), torch.randint(6, (size,))
    masks = {name: torch.rand(6, 4) >= 0.25 for name in ("item", *names)} | {"user": torch.rand(5, 4) >= 0.25}
    found = objective(user, item, dict(zip(names, latents, strict=True)), users, items, masks=masks)
    f = objective.predictor
    mirror, apart = torch.zeros((), dtype=torch.float64), []
    for name, latent in zip(names, latents, strict=True):
        target = (latent * masks[name] / 0.75).detach()
        mirror = mirror + sum(1 - cosine_similarity(f(item[i]), target[i], dim=0) for i in items) / size
    for table, ids in ((user, users), (item, items)):
        units = [f(table[i]) / f(table[i]).norm() for i in ids]
        apart.append(sum((-2 * (a - b).square().sum()).exp() for a in units for b in units) / size**2)
    uniform = (apart[0].log() + apart[1].log()) / 2
    torch.testing.assert_close(found.mirroring, mirror)
    torch.testing.assert_close(found.uniformity, uniform)
    published = found.reconstruction + 1.5 * found.alignment + 0.7 * found.masking + 0.3 * found.regularisation
    torch.testing.assert_close(found.total, published + 0.4 * mirror + 0.6 * uniform)
    for of_found, of_expected in zip(
        torch.autograd.grad(found.mirroring + 2 * found.uniformity, [user, item, f.weight], retain_graph=True),
        torch.autograd.grad(mirror + 2 * uniform, [user, item, f.weight]),
        strict=True,
    ):
        torch.testing.assert_close(of_found, of_expected, rtol=1e-9, atol=1e-12)
    of_targets = torch.autograd.grad(found.mirroring, latents, allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in of_targets)


def test_without_options_the_total_is_the_papers_to_the_last_bit() -> None:
    torch.manual_seed(0)
    objective = BootstrapObjective(8, ("image",), align_weight=1.7, reg_weight=0.3)
    user, item, image = (torch.randn(n, 8) for n in (30, 20, 20))
    batch = torch.randint(30, (64,)), torch.randint(20, (64,))
    found = objective(user, item, {"image": image}, *batch, generator=torch.Generator().manual_seed(1))
    published = found.reconstruction + 1.7 * (found.alignment + found.masking) + 0.3 * found.regularisation
    assert torch.equal(found.total, published)
    assert (float(found.mirroring), float(found.uniformity)) == (0, 0)


@pytest.mark.parametrize("option", ["mirror_weight", "uniformity_weight"])
def test_terms_beyond_the_paper_draw_no_random_numbers(option: str) -> None:
    tables = [torch.randn(n, 8) for n in (30, 20, 20)]
    losses, states = [], []
    for options in ({}, {option: 0.5}):
        torch.manual_seed(0)
        objective = BootstrapObjective(8, ("image",), **options)
        users, items = torch.randint(30, (64,)), torch.randint(20, (64,))
        losses.append(objective(tables[0], tables[1], {"image": tables[2]}, users, items))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    for name in ("reconstruction", "alignment", "masking", "regularisation"):
        assert torch.equal(getattr(losses[0], name), getattr(losses[1], name))
    assert not torch.equal(losses[0].total, losses[1].total)


@pytest.mark.parametrize("make", [Batch.of, Batch.as_given])
def test_a_batch_serves_each_node_from_one_place(make: Callable[[torch.Tensor, torch.Tensor], Batch]) -> None:
    users, items = torch.tensor([3, 1, 3, 3]), torch.tensor([7, 7, 2, 7])
    batch = make(users, items)
    assert batch.users[batch.user_of].tolist() == users.tolist()
    assert batch.items[batch.item_of].tolist() == items.tolist()
    assert (batch.user_of[0], batch.item_of[0]) == (batch.user_of[2], batch.item_of[3])


def test_wrong_options_are_refused() -> None:
    published = {"dropout": 1}, {"reg_weight": -1}, {"align_weight": "2"}
    for option in (*published, {"mask_weight": -1}, {"mirror_weight": None}, {"uniformity_weight": True}):
        with pytest.raises(ConfigError, match=f"^{next(iter(option))}: got "):
            BootstrapObjective(4, **option)
