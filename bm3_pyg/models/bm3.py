"""BM3: bootstrapped multi-modal model for recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from bm3_pyg.data.hetero import check_features
from bm3_pyg.errors import ConfigError, RunError
from bm3_pyg.nn.base import RecommenderModel, check_batch, embedding
from bm3_pyg.nn.features import feature_table, normalised
from bm3_pyg.nn.objective import Batch, BM3Losses, BootstrapObjective
from bm3_pyg.ops import build_graph, propagate, propagate_rows
from bm3_pyg.ops.item_graph import item_graph
from bm3_pyg.optim.row_table import RowTable

OFFICIAL_NAMES = MappingProxyType({"image": "image", "text": "text"})


class BM3(RecommenderModel):
    r"""The recommender of Zhou et al., `"Bootstrap Latent Representations for Multi-modal Recommendation"
    <https://arxiv.org/abs/2207.05969>`_, WWW 2023.

    Id embeddings are propagated over the interaction graph as in LightGCN,
    :math:`H = \frac{1}{L+1} \sum_{l=0}^{L} \hat{A}^l [E_U; E_I]`, with a residual on the items,
    :math:`h_u = H_U, h_i = H_I + E_I`; features are projected, :math:`h_m = X_m W_m^T + b_m`; and
    :class:`~bm3_pyg.nn.BootstrapObjective` trains them without negative samples. A user's score of an item is
    :math:`f(h_u) \cdot f(h_i)`.

    The features are trained too, as for the published numbers, unless ``freeze_features``. No gradient of the
    alignment and masking losses reaches the id embeddings: features act on the ranking only through f.

    Options up to ``align_weight``, and frozen features, are the paper's. The others go beyond it and are off by
    default. What they are for, and what they did on TikTok with 2 layers, where the published model has a validation
    Recall@20 of .0962 (mean of 5 seeds):

    - ``mask_weight`` weighs the masking loss by itself. Masking without alignment, ``align_weight=0, mask_weight=2``,
      which is ``bm3 train --preset plus``: .1010 (5 seeds).
    - ``normalize_features`` lets features of another scale, or far from zero, count alike: .1009 (5).
    - ``uniformity_weight`` keeps users, and items, apart without negative samples: .1008 with 0.03 (2).
    - ``item_neighbours`` adds FREEDOM's item graph, through which features reach the items: .0923 with 10 (2).
    - ``mirror_weight`` adds an alignment whose gradient reaches the embeddings: .0872 with 0.3 (2).
    - ``encoder`` takes the place of LightGCN's propagation, for studies of other convolutions.

    Args:
        num_users: number of users U.
        num_items: number of items I.
        edge_index: training interactions: [2, E], user ids above item ids (a tensor or PyG ``EdgeIndex``), or the
            [U, I] matrix as a sparse tensor of PyTorch or torch_sparse; repeated ones count once.
        modalities: ``{name: [I, d]}`` item features; none for a model on ids alone.
        embedding_dim: dimension D of the embeddings.
        num_layers: propagation layers L.
        dropout: rate of the targets' dropout, in [0, 1).
        reg_weight: weight of the regularisation.
        align_weight: weight of the alignment and masking losses.
        mask_weight: weight of the masking loss alone; ``align_weight`` by default.
        freeze_features: keep the features as they are; far less memory and time. Small tables are copied in half
            precision, large ones are not copied (:func:`bm3_pyg.nn.features.frozen_table`).
        normalize_features: start from features centred and of unit length, modality by modality; frozen ones are
            then held in half precision whatever their size.
        item_neighbours: neighbours per modality in the item-item graph S of :mod:`bm3_pyg.ops.item_graph`, by cosine on
            the features that training starts from; :math:`h_i` gains :math:`S E_I`. 0 for none.
        mirror_weight: weight of mirrored alignment, see :class:`~bm3_pyg.nn.BootstrapObjective`.
        uniformity_weight: weight of uniformity, see :class:`~bm3_pyg.nn.BootstrapObjective`.
        encoder: a module mapping ``(x [U + I, D], edge_index [2, 2E])`` to [U + I, D], in place of the propagation;
            users come first in its id space and every interaction stands in both directions.

    Raises:
        ConfigError: if an option is of the wrong type or out of range, or features do not have one row per item.
        DataError: if ``edge_index`` names a user or item outside the range.
    """

    unscored = ("features",)
    as_lightgcn: ClassVar[Callable[[BM3], Any]]
    """A view with the calls of PyG's LightGCN, given by :mod:`bm3_pyg.models.bm3_lightgcn`, which knows both."""

    def __init__(
        self,
        num_users: int,
        num_items: int,
        edge_index: Any,
        *,
        modalities: Mapping[str, Tensor] | None = None,
        embedding_dim: int = 64,
        num_layers: int = 1,
        dropout: float = 0.5,
        reg_weight: float = 0.1,
        align_weight: float = 2.0,
        mask_weight: float | None = None,
        freeze_features: bool = False,
        normalize_features: bool = False,
        item_neighbours: int = 0,
        mirror_weight: float = 0.0,
        uniformity_weight: float = 0.0,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.graph = build_graph(edge_index, num_users, num_items)
        check_features(features := modalities or {}, num_items)
        if item_neighbours and not features:
            raise ConfigError(f"item_neighbours: got {item_neighbours} without modalities, expected features or 0")
        if encoder is not None and not isinstance(encoder, nn.Module):
            raise ConfigError(f"encoder: got {encoder!r}, expected a torch.nn.Module")

        self.num_layers = num_layers
        self.objective = BootstrapObjective(
            embedding_dim,
            tuple(features),
            dropout,
            reg_weight,
            align_weight,
            mask_weight=mask_weight,
            mirror_weight=mirror_weight,
            uniformity_weight=uniformity_weight,
        )
        self.user_embedding = embedding(num_users, embedding_dim)
        self.item_embedding = embedding(num_items, embedding_dim)
        if normalize_features:
            features = {
                name: normalised(feature, torch.float16 if freeze_features else feature.dtype)
                for name, feature in features.items()
            }
        self.item_graph = item_graph(list(features.values()), item_neighbours) if item_neighbours else None
        tables = {name: feature_table(feature, trainable=not freeze_features) for name, feature in features.items()}
        linears = {name: nn.Linear(feature.size(1), embedding_dim) for name, feature in features.items()}
        for linear in linears.values():
            nn.init.xavier_normal_(linear.weight)
        self.features = cast(Mapping[str, RowTable], nn.ModuleDict(tables))
        self.projections = cast(Mapping[str, nn.Linear], nn.ModuleDict(linears))
        self.encoder = encoder
        if encoder is not None:
            self.register_buffer("edge_index", self.graph.both_directions(), persistent=False)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters anew, those of an encoder with ``reset_parameters`` too, as a new model would have them.

        Raises:
            ConfigError: if features are trained: what they were before is not kept.
        """
        if any(table.trainable for table in self.features.values()):
            raise ConfigError(
                "reset_parameters: features are trained and what they were is not kept; build a new model"
            )
        for table in (self.user_embedding, self.item_embedding):
            nn.init.xavier_uniform_(table)
        for linear in (self.objective.predictor, *self.projections.values()):
            linear.reset_parameters()
            nn.init.xavier_normal_(linear.weight)
        if callable(reset := getattr(self.encoder, "reset_parameters", None)):
            reset()

    def forward(self) -> tuple[Tensor, Tensor]:
        """h_u [U, D] and h_i [I, D], before the predictor."""
        users, items = self.user_embedding, self.item_embedding
        if self.encoder is None:
            hidden_users, hidden_items = propagate(self.graph, users, items, self.num_layers, residual=True)
        else:
            hidden = self.encoder(torch.cat([users, items]), self.edge_index)
            if hidden.shape != (expected := (self.num_users + self.num_items, users.size(1))):
                raise ConfigError(f"encoder: got embeddings {list(hidden.shape)}, expected {list(expected)}")
            hidden_users, hidden_items = hidden.to(users.dtype).split([self.num_users, self.num_items])
            hidden_items = hidden_items + items
        if self.item_graph is not None:
            hidden_items = hidden_items + self.item_graph.smooth(items)
        return hidden_users, hidden_items

    def embed(self) -> tuple[Tensor, Tensor]:
        """f(h_u) [U, D] and f(h_i) [I, D]: their dot products are the scores."""
        users, items = self.forward()
        return self.objective.predictor(users), self.objective.predictor(items)

    def loss(
        self,
        users: Tensor,
        items: Tensor,
        *,
        masks: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> BM3Losses:
        """Losses of the interactions ``(users[b], items[b])``, both [B]. Dropout is applied in eval mode too.

        Args:
            users: [B] user ids.
            items: [B] item ids.
            masks: boolean keep-masks in place of random ones: ``{"user": [U, D], "item": [I, D], modality: [I, D]}``.
            generator: source of the random masks; PyTorch's global one by default.
        """
        check_batch(users, items)
        batch = Batch.of(users, items)
        user_rows, item_rows, user_norm, item_norm = self._rows(batch)
        return self.objective.on_batch(
            batch,
            user_rows,
            item_rows,
            {name: table.project(batch.items, self.projections[name]) for name, table in self.features.items()},
            (user_norm + item_norm) / self.num_items,
            masks=masks,
            generator=generator,
        )

    def _rows(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """h_u and h_i of the batch's distinct nodes, and the norms of the whole tables."""
        if self.encoder is not None or self.item_graph is not None:
            users, items = self.forward()
            return users[batch.users], items[batch.items], users.norm(), items.norm()
        tables = self.user_embedding, self.item_embedding
        return propagate_rows(self.graph, *tables, self.num_layers, batch.users, batch.items, residual=True)

    def load_official_state_dict(
        self, state_dict: Mapping[str, Tensor], names: Mapping[str, str] = OFFICIAL_NAMES
    ) -> None:
        """Load weights saved by the authors' code or MMRec.

        Args:
            state_dict: ``user_embedding.weight``, ``item_id_embedding.weight``, ``predictor.*`` and, for each of their
                modalities (``image``, ``text``), ``image_embedding.weight`` and ``image_trs.*``.
            names: their modality names to ours; ``{"text": "audio"}`` loads their text weights into our audio.

        Raises:
            RunError: if a weight is missing, unknown or of another shape; nothing is loaded then.
        """
        targets: dict[str, Tensor] = {
            "user_embedding.weight": self.user_embedding,
            "item_id_embedding.weight": self.item_embedding,
            "predictor.weight": self.objective.predictor.weight,
            "predictor.bias": self.objective.predictor.bias,
        }
        for theirs, ours in names.items():
            if ours in self.features:
                targets[f"{theirs}_embedding.weight"] = self.features[ours].weight
                targets[f"{theirs}_trs.weight"] = self.projections[ours].weight
                targets[f"{theirs}_trs.bias"] = self.projections[ours].bias
        if absent := set(self.features) - set(names.values()):
            raise RunError(f"modality {min(absent)}: names does not say which of the checkpoint's modalities it is")
        if missing := targets.keys() - state_dict.keys():
            raise RunError(f"checkpoint: no weight {min(missing)!r}, found {', '.join(sorted(state_dict))}")
        if unknown := state_dict.keys() - targets.keys():
            raise RunError(f"checkpoint: unknown weight {min(unknown)!r}, expected only {', '.join(sorted(targets))}")
        for key, target in targets.items():
            if not state_dict[key].isfinite().all():
                raise RunError(f"checkpoint: {key} holds NaN or infinity, expected finite numbers")
            if state_dict[key].shape != target.shape:
                shape, expected = list(state_dict[key].shape), list(target.shape)
                raise RunError(f"checkpoint: {key} has shape {shape}, expected {expected}: another dataset or setting?")
        with torch.no_grad():
            for table in self.features.values():
                table.flush()
            for key, target in targets.items():
                target.copy_(state_dict[key])
