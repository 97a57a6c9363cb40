"""BM3 with LightGCN's calls: users and items in one id space, the graph given per call."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from torch_geometric import EdgeIndex
from torch_geometric.nn.models.lightgcn import BPRLoss
from torch_geometric.utils import is_sparse, to_edge_index

from bm3_pyg.errors import ConfigError, DataError, check_number
from bm3_pyg.models.bm3 import BM3
from bm3_pyg.nn.objective import BM3Losses
from bm3_pyg.ops import Graph, build_graph
from bm3_pyg.ops.csr import take_rows
from bm3_pyg.protocols import ranking_mode


class BM3LightGCN(nn.Module):
    r""":class:`~bm3_pyg.BM3` with the calls of :class:`torch_geometric.nn.LightGCN`.

    Nodes are numbered as in LightGCN's scripts: users from 0 to U - 1, then items from U to U + I - 1. Two lines of
    such a script change: ``LightGCN(num_users + num_items, ...)`` becomes ``BM3LightGCN(num_users, num_items, ...)``,
    and ``recommendation_loss`` becomes :meth:`bootstrap_loss`, which needs no negative samples.

    Wherever a graph is given as ``edge_index``, it is the training interactions as

    - a tensor [2, E] of node ids or PyG ``EdgeIndex``, or
    - the [U + I, U + I] matrix as a sparse tensor of PyTorch (CSR, CSC or COO) or as a ``torch_sparse.SparseTensor``.

    An interaction counts once, in whichever direction or in both, and however often: BM3's graph is symmetric and has
    no edge weights. So a transposed ``adj_t`` is the same graph, and LightGCN's ``edge_weight`` has to be None; it is
    a keyword here. LightGCN's attributes ``embedding``, ``convs`` and ``alpha`` have no counterpart. A graph is
    normalised when a call first sees it and remembered while the object lives, until PyTorch changes its ids in place;
    a change made through NumPy goes unnoticed.

    Args:
        num_users: number of users U.
        num_items: number of items I.
        embedding_dim: dimension D.
        num_layers: propagation layers L.
        modalities: ``{name: [I, d]}`` item features, items in the order of their ids.
        options: the other options of :class:`~bm3_pyg.BM3`.

    Attributes:
        bm3: the :class:`~bm3_pyg.BM3` that holds the parameters. Its own graph takes no part in the calls here.

    Raises:
        ConfigError: as :class:`~bm3_pyg.BM3` does.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        num_layers: int = 1,
        *,
        modalities: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        options |= {"embedding_dim": embedding_dim, "num_layers": num_layers, "modalities": modalities}
        self.bm3 = BM3(num_users, num_items, torch.empty(2, 0, dtype=torch.long), **options)
        self._graphs = _Remembered()

    @classmethod
    def of(cls, model: BM3) -> BM3LightGCN:
        """A view of ``model``, as ``model.as_lightgcn()`` gives it.

        Parameters are shared: training one moves the other. The view takes its graph from each call; :meth:`as_bm3`
        leads back.
        """
        view = cls.__new__(cls)
        nn.Module.__init__(view)
        view.bm3 = model
        view._graphs = _Remembered()
        return view

    @property
    def num_nodes(self) -> int:
        """U + I."""
        return self.bm3.num_users + self.bm3.num_items

    @property
    def embedding_dim(self) -> int:
        return self.bm3.user_embedding.size(1)

    @property
    def num_layers(self) -> int:
        return self.bm3.num_layers

    def as_bm3(self, edge_index: Any) -> BM3:
        """The same model on the graph ``edge_index``, as :func:`bm3_pyg.fit` and :func:`bm3_pyg.evaluate` take it.

        Parameters are shared: training one moves the other. Move to a device before, not after.

        Raises:
            DataError: if ``edge_index`` is not a graph of users and items (class docstring).
        """
        model, graph = copy.copy(self.bm3), self._graph(edge_index)
        model.graph = graph
        if model.encoder is not None:
            model._buffers = {**model._buffers, "edge_index": graph.both_directions()}
        return model

    def reset_parameters(self) -> None:
        """All parameters anew, as for a new model; see :meth:`bm3_pyg.BM3.reset_parameters`."""
        self.bm3.reset_parameters()

    def get_embedding(self, edge_index: Any, edge_weight: None = None) -> Tensor:
        """f(h_u) above f(h_i), [U + I, D]: their dot products are the scores."""
        _refuse_weights(edge_weight)
        return torch.cat(self.as_bm3(edge_index).embed())

    def forward(self, edge_index: Any, edge_label_index: Tensor | None = None, edge_weight: None = None) -> Tensor:
        """Scores [B] of pairs of nodes.

        Args:
            edge_index: the graph.
            edge_label_index: [2, B] node ids; by default every edge of ``edge_index`` as it stands there.
        """
        if edge_label_index is None:
            edge_label_index = _entries(edge_index)
        nodes = self.get_embedding(edge_index, edge_weight)
        return (nodes[edge_label_index[0]] * nodes[edge_label_index[1]]).sum(dim=-1)

    def predict_link(
        self,
        edge_index: Any,
        edge_label_index: Tensor | None = None,
        prob: bool = False,
        *,
        edge_weight: None = None,
    ) -> Tensor:
        """The sigmoid of the scores [B] if ``prob``, else that rounded to 0 or 1; arguments as for :meth:`forward`.

        BM3 is trained to rank: the sigmoid keeps the order, and is no calibrated probability.
        """
        if not isinstance(prob, bool):
            raise ConfigError(
                f"prob: got a {type(prob).__name__}, expected true or false (edge_weight is a keyword here)"
            )
        probability = self.forward(edge_index, edge_label_index, edge_weight).sigmoid()
        return probability if prob else probability.round()

    @torch.no_grad()
    def recommend(
        self,
        edge_index: Any,
        src_index: Tensor | None = None,
        dst_index: Tensor | None = None,
        k: int = 1,
        sorted: bool = True,
        *,
        edge_weight: None = None,
    ) -> Tensor:
        """The k best nodes among ``dst_index`` for each node of ``src_index``, [n, k], as node ids, in eval mode.

        Nothing is hidden: interactions of ``edge_index`` can be recommended again, as in LightGCN.

        Args:
            edge_index: the graph.
            src_index: [n] node ids; all nodes by default.
            dst_index: [m] node ids to choose from; all nodes by default, users among them.
            k: length of the lists, at most m.
            sorted: best first; otherwise in any order.

        Raises:
            ConfigError: if k is not an integer from 1 to m.
            DataError: if a node is out of range, or not an integer.
        """
        with ranking_mode(self.as_bm3(edge_index)):
            sources = targets = self.get_embedding(edge_index, edge_weight)
        if src_index is not None:
            sources = sources[self._nodes("src_index", src_index)]
        if dst_index is not None:
            dst_index = self._nodes("dst_index", dst_index)
            targets = targets[dst_index]
        check_number("k", k, int, 1, len(targets) + 1)
        best = (sources @ targets.T).topk(k, dim=-1, sorted=sorted).indices
        return best if dst_index is None else dst_index[best]

    def bootstrap_loss(self, edge_index: Any, pos_edge_label_index: Tensor) -> BM3Losses:
        """BM3's losses of a batch of interactions; ``.total`` is the one to minimise.

        Args:
            edge_index: the graph.
            pos_edge_label_index: [2, B] node ids, a user and an item in each column, in either order.

        Raises:
            DataError: if a column is not a user and an item.
        """
        users, items = self._interactions("pos_edge_label_index", pos_edge_label_index)
        return self.as_bm3(edge_index).loss(users, items)

    def link_pred_loss(self, pred: Tensor, edge_label: Tensor, **kwargs: Any) -> Tensor:
        """Binary cross-entropy of scores [B] with labels [B], as LightGCN's; ``kwargs`` are of BCEWithLogitsLoss."""
        loss: Tensor = nn.BCEWithLogitsLoss(**kwargs)(pred, edge_label.to(pred.dtype))
        return loss

    def recommendation_loss(
        self,
        pos_edge_rank: Tensor,
        neg_edge_rank: Tensor,
        node_id: Tensor | None = None,
        lambda_reg: float = 1e-4,
        **kwargs: Any,
    ) -> Tensor:
        """LightGCN's loss of scores [B] of positive and negative pairs, to train BM3's embeddings by it.

        Args:
            pos_edge_rank, neg_edge_rank: [B] scores, of :meth:`forward`.
            node_id: [n] nodes whose id embeddings are regularised; all nodes by default.
            lambda_reg: weight of their squares.
            kwargs: of :class:`torch_geometric.nn.models.lightgcn.BPRLoss`.
        """
        embeddings = torch.cat([self.bm3.user_embedding, self.bm3.item_embedding])
        if node_id is not None:
            embeddings = take_rows(embeddings, self._nodes("node_id", node_id))
        loss: Tensor = BPRLoss(lambda_reg, **kwargs)(pos_edge_rank, neg_edge_rank, embeddings)
        return loss

    def extra_repr(self) -> str:
        sizes = f"{self.bm3.num_users}, {self.bm3.num_items}"
        return f"{sizes}, embedding_dim={self.embedding_dim}, num_layers={self.num_layers}"

    def _nodes(self, name: str, ids: Tensor) -> Tensor:
        """Node ids [n] on the parameters' device."""
        ids = torch.as_tensor(ids, device=self.bm3.device)
        if ids.dim() != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
            raise DataError(f"{name}: got {ids.dtype} {list(ids.shape)}, expected integer node ids [n]")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.num_nodes:
            wrong = ids[(ids < 0) | (ids >= self.num_nodes)][0]
            raise DataError(f"{name}: got node {int(wrong)}, expected one from 0 to {self.num_nodes - 1}")
        return ids.long()

    def _graph(self, edge_index: Any) -> Graph:
        """The normalised graph on the parameters' device, made anew only where ``edge_index`` is new or was changed."""
        if not isinstance(edge_index, Tensor) and not is_sparse(edge_index):
            kind = type(edge_index).__name__
            raise DataError(f"edge_index: got {kind}, expected a tensor [2, E] or a sparse matrix")
        device, version = self.bm3.user_embedding.device, _version(edge_index)
        remembered = self._graphs.get(edge_index)
        if remembered is not None and remembered[:2] == (device, version):
            known: Graph = remembered[2]
            return known
        if is_sparse(edge_index):
            shape, expected = [edge_index.size(0), edge_index.size(1)], [self.num_nodes, self.num_nodes]
            if shape != expected:
                raise DataError(f"edge_index: got a matrix {shape}, expected {expected}")
        pairs = torch.stack(self._interactions("edge_index", _entries(edge_index)))
        graph = build_graph(pairs, self.bm3.num_users, self.bm3.num_items).to(device)
        if version is not None:
            self._graphs[edge_index] = device, version, graph
        return graph

    def _interactions(self, name: str, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Users [E] and items [E], each from 0, of columns that join a user and an item in either order."""
        num_users, num_nodes = self.bm3.num_users, self.num_nodes
        if ids.dim() != 2 or ids.size(0) != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
            kind = f"{ids.dtype} {list(ids.shape)}"
            raise DataError(f"{name}: got {kind}, expected integer node ids [2, E]")
        low, high = ids.long().aminmax(dim=0)
        wrong = (low < 0) | (low >= num_users) | (high < num_users) | (high >= num_nodes)
        if wrong.any():
            pair = ids[:, wrong][:, 0].tolist()
            expected = f"a user from 0 to {num_users - 1} and an item from {num_users} to {num_nodes - 1}"
            raise DataError(
                f"{name}: column {int(wrong.nonzero()[0])} joins {pair[0]} and {pair[1]}, expected {expected}"
            )
        return low, high - num_users


BM3.as_lightgcn = lambda model: BM3LightGCN.of(model)


def _refuse_weights(edge_weight: object) -> None:
    if edge_weight is not None:
        raise ConfigError("edge_weight: got one, expected None, as BM3's graph has no edge weights")


class _Remembered(WeakIdKeyDictionary):
    """(device, version, graph) by the object the graph was made from, while that object lives. Pickles are empty."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Remembered, ()


def _entries(edge_index: Any) -> Tensor:
    """Node ids [2, E] of any accepted form, in its order."""
    ids: Tensor = edge_index
    if isinstance(edge_index, EdgeIndex):
        ids = edge_index.as_tensor()
    elif isinstance(edge_index, Tensor) and edge_index.layout == torch.sparse_coo:
        ids = edge_index._indices()  # to_edge_index would mark entries as sorted that are not
    elif is_sparse(edge_index):
        ids = to_edge_index(edge_index)[0]
    return ids


def _version(edge_index: Any) -> list[int] | None:
    """Changes when ids of ``edge_index`` are changed in place; None for inference tensors, which keep no count."""
    if not isinstance(edge_index, Tensor):  # torch_sparse.SparseTensor
        parts = list(edge_index.coo()[:2])
    elif edge_index.layout == torch.sparse_csr:
        parts = [edge_index.crow_indices(), edge_index.col_indices()]
    elif edge_index.layout == torch.sparse_csc:
        parts = [edge_index.ccol_indices(), edge_index.row_indices()]
    else:
        parts = [_entries(edge_index)]
    return None if any(part.is_inference() for part in parts) else [part._version for part in parts]
