"""Cold items: those without training interactions, placed by their features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.data.hetero import missing_of
from bm3_pyg.errors import ConfigError
from bm3_pyg.eval.tasks import check_sizes
from bm3_pyg.models import BM3
from bm3_pyg.ops.topk import DotProducts
from bm3_pyg.protocols import Recommender, Scorer, ranking_mode

BLOCK = 1024  # items whose features are projected at once


class ColdItems:
    """The embeddings of a model, cold items' among them; see :func:`with_cold_items`."""

    def __init__(self, users: Tensor, items: Tensor) -> None:
        self.users, self.items = users, items

    def embed(self) -> tuple[Tensor, Tensor]:
        """Users [U, D] and items [I, D]: their dot products are the scores."""
        return self.users, self.items

    def scorer(self) -> Scorer:
        return DotProducts(self.users, self.items)


@torch.no_grad()
def with_cold_items(model: Recommender, data: HeteroData) -> ColdItems:
    r"""The same recommender, with the items that have no training interactions scored from their features.

    The id embedding of such an item is what it was initialised to. In its place stands the direction of
    :math:`\sum_m f(h_m)`, with the mean length of the other items' :math:`f(h_i)`. Training brings this about: the
    alignment loss turns :math:`f(h_m)` towards :math:`h_i` and the reconstruction loss turns :math:`f(h_u)` towards the
    :math:`h_i` of the user's items, so :math:`f(h_u) \cdot f(h_m)` is high where a user is near to an item. It needs
    ``align_weight > 0``. Modalities that an item lacks (their features were filled in) do not count, unless it lacks
    all of them.

    Features that are trained too can fit h_i by themselves, row by row, and the projection then has less to learn for
    items it has not seen: prefer ``freeze_features=True`` for catalogues with cold items.

    Args:
        model: a trained BM3 with modalities.
        data: the dataset it was trained on.

    Raises:
        ConfigError: for another model, or one without modalities.
    """
    with ranking_mode(model) as model:
        return _placed(model, data)


def cold_items(data: HeteroData, split: str) -> Tensor:
    """Ids [n] of the items in ``split`` that have no training interactions, ascending."""
    items: Tensor = edges_of(data, split)[1].unique()
    cold: Tensor = items[~torch.isin(items, edges_of(data, "train")[1])]
    return cold


def is_cold_split(data: HeteroData) -> bool:
    """Whether no item of the validation and test splits has training interactions, as with ``split="cold-items"``."""
    held_out = torch.cat([edges_of(data, split)[1] for split in ("val", "test")])
    return bool(held_out.numel()) and not bool(torch.isin(held_out, edges_of(data, "train")[1]).any())


def _placed(model: Recommender, data: HeteroData) -> ColdItems:
    if not isinstance(model, BM3):
        raise ConfigError(f"cold items: got {type(model).__name__}, expected a BM3 model, which learns to place them")
    if not model.features:
        raise ConfigError("cold items: the model has no modalities, expected at least one to place them by")
    check_sizes(model, data)
    users, items = model.embed()
    warm = torch.zeros(model.num_items, dtype=torch.bool)
    warm[edges_of(data, "train")[1]] = True
    cold = (~warm).nonzero().view(-1)
    length = items[warm.to(items.device)].norm(dim=1).mean()
    items = items.clone()
    for rows in cold.split(BLOCK):
        items[rows.to(items.device)] = length * normalize(_from_features(model, data, rows), dim=1)
    return ColdItems(users, items)


def _from_features(model: BM3, data: HeteroData, rows: Tensor) -> Tensor:
    """The sum of f(h_m) over the modalities that each item of ``rows`` [n] has, [n, D]."""
    like = model.item_embedding
    own = {name: ~torch.from_numpy(missing_of(data, name))[rows] for name in model.features}
    none = ~torch.stack([*own.values()]).any(0)
    total = like.new_zeros(rows.numel(), like.size(1))
    for name, table in model.features.items():
        latent = model.objective.predictor(table.project(rows.to(like.device), model.projections[name]))
        total += latent * (own[name] | none).to(like.device)[:, None]
    return total
