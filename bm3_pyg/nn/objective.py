r"""The bootstrap objective of BM3, usable on any recommender's embeddings.

Zhou et al., `"Bootstrap Latent Representations for Multi-modal Recommendation"
<https://arxiv.org/abs/2207.05969>`_, WWW 2023, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bm3_pyg.names import check_option
from bm3_pyg.ops import dropout
from bm3_pyg.ops.csr import first_places
from bm3_pyg.ops.loss import Pairs, uniformity, weighted_cosines
from bm3_pyg.ops.precision import full_precision

WEIGHTS = ("dropout", "reg_weight", "align_weight", "mask_weight", "mirror_weight", "uniformity_weight")


class BM3Losses(NamedTuple):
    """Scalar losses of one batch. The components are unweighted; ``total`` is their weighted sum.

    ``mirroring`` and ``uniformity``, which the paper does not have, are 0 unless their weights are set.
    """

    total: Tensor
    reconstruction: Tensor
    alignment: Tensor
    masking: Tensor
    regularisation: Tensor
    mirroring: Tensor
    uniformity: Tensor


@dataclass(frozen=True)
class Batch:
    """A batch of B interactions in terms of its nodes: ``b`` joins ``users[user_of[b]]`` and ``items[item_of[b]]``.

    One place of ``users`` [u] and of ``items`` [i] serves all the interactions of a node; others may repeat its id.
    """

    users: Tensor
    items: Tensor
    user_of: Tensor
    item_of: Tensor

    @classmethod
    def of(cls, users: Tensor, items: Tensor) -> Batch:
        """Ids distinct and ascending; on a GPU :meth:`as_given`."""
        if users.is_cuda:
            return cls.as_given(users, items)
        distinct_users, user_of = users.unique(return_inverse=True)
        distinct_items, item_of = items.unique(return_inverse=True)
        return cls(distinct_users, distinct_items, user_of, item_of)

    @classmethod
    def as_given(cls, users: Tensor, items: Tensor) -> Batch:
        """All B ids in their order, each node served by the first place it stands at.

        The shapes depend on B alone, so that nothing waits for the device; places that serve nobody have no weight.
        """
        return cls(users, items, first_places(users), first_places(items))


class BootstrapObjective(nn.Module):
    r"""BM3's losses, given embeddings and modality latents, without negative samples.

    With the online prediction :math:`f(h)` and the target :math:`t = \mathrm{dropout}(\mathrm{sg}(h))`, sg being the
    stop-gradient, :math:`C(a, b) = 1 - \mathrm{mean}_b \cos(a, b)` and D the embedding dimension:

    .. math::
        L_{rec} &= C(f(h_u), t_i) + C(f(h_i), t_u) \\
        L_{align} &= \sum_m C(f(h_m), t_i), \quad L_{mask} = \sum_m C(f(h_m), t_m) \\
        L_{reg} &= (\lVert h_U \rVert_F + \lVert h_I \rVert_F) / I \\
        L &= L_{rec} + \text{align\_weight} \cdot (L_{align} + L_{mask}) + \text{reg\_weight} \cdot L_{reg}

    Every node has one dropout mask per call, however often it stands in the batch.

    Two terms beyond the paper are off by default. Mirrored alignment lets features shape the embeddings,
    and uniformity (Wang et al., `"Towards Representation Alignment and Uniformity in Collaborative Filtering"
    <https://arxiv.org/abs/2206.12811>`_, KDD 2022) keeps users, and items, apart without sampling negatives:

    .. math::
        L_{mirror} &= \sum_m C(f(h_i), t_m) \\
        L_{unif} &= \tfrac{1}{2} \log \mathrm{mean}_{b, b'} e^{-2 \lVert x_u - x_{u'} \rVert^2}
            + \tfrac{1}{2} \log \mathrm{mean}_{b, b'} e^{-2 \lVert x_i - x_{i'} \rVert^2},
            \quad x = f(h) / \lVert f(h) \rVert \\
        L &\mathrel{+}= \text{mirror\_weight} \cdot L_{mirror} + \text{uniformity\_weight} \cdot L_{unif}

    All pairs of the batch count in the means, also those of a node with itself.

    Args:
        dim: embedding dimension D.
        modalities: names of the modalities that will be given.
        dropout: rate of the targets' dropout, in [0, 1).
        reg_weight: weight of the regularisation, over all users and items.
        align_weight: weight of alignment and masking.
        mask_weight: weight of masking alone; ``align_weight`` by default.
        mirror_weight: weight of mirrored alignment, in ``L`` itself and so not multiplied by ``align_weight``.
        uniformity_weight: weight of uniformity.

    Raises:
        ConfigError: if a number is out of range.
    """

    def __init__(
        self,
        dim: int,
        modalities: Sequence[str] = (),
        dropout: float = 0.5,
        reg_weight: float = 0.1,
        align_weight: float = 2.0,
        *,
        mask_weight: float | None = None,
        mirror_weight: float = 0.0,
        uniformity_weight: float = 0.0,
    ) -> None:
        super().__init__()
        check_option("embedding_dim", dim)
        self.modalities = tuple(modalities)
        self.dropout = dropout
        self.reg_weight = reg_weight
        self.align_weight = align_weight
        self.mask_weight = mask_weight
        self.mirror_weight = mirror_weight
        self.uniformity_weight = uniformity_weight
        for name in WEIGHTS:
            check_option(name, getattr(self, name))
        self.predictor = nn.Linear(dim, dim)
        nn.init.xavier_normal_(self.predictor.weight)

    @full_precision
    def forward(
        self,
        user_emb: Tensor,
        item_emb: Tensor,
        latents: Mapping[str, Tensor],
        users: Tensor,
        items: Tensor,
        *,
        masks: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> BM3Losses:
        """Losses of the interactions ``(users[b], items[b])``.

        Args:
            user_emb: [U, D] embeddings of all users, with gradient.
            item_emb: [I, D] embeddings of all items, with gradient.
            latents: ``{modality: [I, D]}`` projected features of all items, with gradient.
            users: [B] user ids.
            items: [B] item ids.
            masks: boolean keep-masks in place of random ones: ``{"user": [U, D], "item": [I, D], modality: [I, D]}``.
            generator: source of the random masks; PyTorch's global one by default.
        """
        batch = Batch.of(users, items)
        return self.on_batch(
            batch,
            user_emb[batch.users],
            item_emb[batch.items],
            {name: latents[name][batch.items] for name in self.modalities},
            (user_emb.norm() + item_emb.norm()) / item_emb.size(0),
            masks=masks,
            generator=generator,
        )

    @full_precision
    def on_batch(
        self,
        batch: Batch,
        user_rows: Tensor,
        item_rows: Tensor,
        latent_rows: Mapping[str, Tensor],
        regularisation: Tensor,
        *,
        masks: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> BM3Losses:
        """The same losses from the batch's rows only: ``user_rows`` [u, D], ``item_rows`` and each of
        ``latent_rows`` [i, D], in the order of ``batch.users`` and ``batch.items``; ``regularisation`` is L_reg."""

        tables = {"user": user_rows, "item": item_rows} | {name: latent_rows[name] for name in self.modalities}
        # All tables one above the other: few large operations take less time than many small ones.
        rows = torch.cat(list(tables.values()))
        keep = None
        if masks is not None:
            keep = torch.cat([masks[name][batch.users if name == "user" else batch.items] for name in tables])
        target = self._target(rows, keep, generator)
        first_item, first_latent = len(user_rows), len(user_rows) + len(item_rows)
        online = self.predictor(rows)

        users_at, items_at = batch.user_of, first_item + batch.item_of
        sets = [Pairs(torch.cat([users_at, items_at]), torch.cat([items_at, users_at]))]
        if count := len(self.modalities):
            places = torch.arange(first_item, len(rows), device=rows.device)
            item_places, latent_places = places[: len(item_rows)].repeat(count), places[len(item_rows) :]
            shares = _shares(item_rows, batch.item_of).repeat(count)
            sets += [Pairs(latent_places, item_places, shares), Pairs(latent_places, latent_places, shares)]
            if self.mirror_weight:
                sets.append(Pairs(item_places, latent_places, shares))
        of_pairs, *of_features = weighted_cosines(online, target, sets)
        reconstruction = 2 - 2 * of_pairs

        alignment = masking = mirroring = spread = torch.zeros_like(reconstruction)
        if count:
            alignment, masking, *mirrored = (count - cosines for cosines in of_features)
            mirroring = mirrored[0] if mirrored else mirroring
        if self.uniformity_weight:
            of_users = uniformity(online[:first_item], _shares(user_rows, batch.user_of))
            spread = (of_users + uniformity(online[first_item:first_latent], _shares(item_rows, batch.item_of))) / 2

        if self.mask_weight is None:
            from_features = self.align_weight * (alignment + masking)
        else:
            from_features = self.align_weight * alignment + self.mask_weight * masking
        total = reconstruction + from_features + self.reg_weight * regularisation
        if self.mirror_weight:
            total = total + self.mirror_weight * mirroring
        if self.uniformity_weight:
            total = total + self.uniformity_weight * spread
        return BM3Losses(total, reconstruction, alignment, masking, regularisation, mirroring, spread)

    def extra_repr(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in WEIGHTS)
        return f"{self.predictor.in_features}, modalities={list(self.modalities)}, {options}"

    def _target(self, rows: Tensor, keep: Tensor | None, generator: torch.Generator | None) -> Tensor:
        if keep is None:
            return dropout(rows, self.dropout, generator)
        return (rows.detach() * keep).mul_(1 / (1 - self.dropout))


def _shares(rows: Tensor, places: Tensor) -> Tensor:
    """Share of the batch's interactions that each of ``rows`` [n, D] serves, [n]."""
    return rows.new_zeros(len(rows)).index_add_(0, places, rows.new_ones(places.shape)) / len(places)
