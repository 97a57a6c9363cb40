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
    expected = torch.stack([rec + 1.5 * (align + mask) + 0.3 * reg, rec, align, mask, reg])
    torch.testing.assert_close(torch.stack(found), expected)


@pytest.mark.parametrize("make", [Batch.of, Batch.in_place])
def test_a_batch_serves_each_node_from_one_place(make: Callable[[torch.Tensor, torch.Tensor], Batch]) -> None:
    users, items = torch.tensor([3, 1, 3, 3]), torch.tensor([7, 7, 2, 7])
    batch = make(users, items)
    assert batch.users[batch.user_of].tolist() == users.tolist()
    assert batch.items[batch.item_of].tolist() == items.tolist()
    assert (batch.user_of[0], batch.item_of[0]) == (batch.user_of[2], batch.item_of[3])


def test_wrong_options_are_refused() -> None:
    for option in ({"dropout": 1}, {"reg_weight": -1}, {"align_weight": "2"}):
        with pytest.raises(ConfigError, match=f"^{next(iter(option))}: got "):
            BootstrapObjective(4, **option)
