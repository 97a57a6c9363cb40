"""Interactions and features as :class:`~torch_geometric.data.HeteroData`, and what can be asked of such data.

``data['user']``, ``data['item']``: ``num_nodes`` and ``raw_id``, the source's own ids (an array of int64 or of str).
``data['item']``: per modality its values [I, d] float32, and ``<name>_missing`` [I] bool, true where they were filled.
``data['user', 'rates', 'item']``: ``edge_index`` [2, E], training interactions; ``val_edge_index`` and
``test_edge_index``; ``time`` (Unix seconds) and ``rating`` [E] where known, ``val_time``, ``test_rating`` and so on for
the other splits. ``data['item', 'rated_by', 'user'].edge_index``: the training interactions reversed.

PyG's transforms and loaders renumber nodes and training interactions, but know nothing of the other splits. So both
node stores have PyG's ``n_id`` [n], at first 0 to n - 1, which transforms slice as they do any attribute:
:func:`~bm3_pyg.data.edges_of` follows it, and leaves out interactions whose user or item is gone.
``data.split_checksums`` tells those splits from ones that were put in their place, which are read as they are.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.edges import KINDS, RATED_BY, RATES, attribute_of, checksum, count, edges_of
from bm3_pyg.data.ids import IdList, Ids, look_up, to_series
from bm3_pyg.data.splits import Interactions
from bm3_pyg.errors import ConfigError, DataError, shown
from bm3_pyg.later import Later
from bm3_pyg.names import SPLITS

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch_geometric.data import HeteroData
else:
    torch = Later("torch")

TAKEN_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    user item raw_id n_id T_destination add_module apply apply_ bfloat16 buffers call_super_init can_infer_num_nodes
    children clear clone compile concat contiguous cpu cuda detach detach_ double dump_patches eval extra_repr
    float forward get get_buffer get_extra_state get_parameter get_submodule half ipu is_edge_attr is_node_attr
    is_sorted_by_time items keys load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters node_attrs num_features num_node_features num_nodes parameters pin_memory pop popitem
    record_stream register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule setdefault share_memory
    share_memory_ snapshot sort_by_time state_dict to to_dict to_empty to_namedtuple train training type up_to
    update values xpu zero_grad
    """,
    )
)
"""What cannot name a modality: our own words, and those of PyTorch 2.13 and PyTorch Geometric 2.8."""
Features = Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]


def build(
    name: str,
    rows: Interactions,
    *,
    user_ids: Ids,
    item_ids: Ids,
    features: Features,
    files: Mapping[str, str],
    notes: Iterable[str],
) -> HeteroData:
    """The dataset as a graph.

    Args:
        name: What the dataset is called.
        rows: Interactions without duplicates, indices into ``user_ids`` [U] and ``item_ids`` [I].
        features: Per modality its values [I, d] and the mask [I] of items that have none of their own.
        files: SHA-256 of every source file, by name.
        notes: What users should know about the data.

    Raises:
        DataError: No interaction is for training.
    """
    if not (rows.split == 0).any():
        raise DataError(f"{name}: none of the {len(rows.users):,} interactions is for training, expected at least one")
    from bm3_pyg.data.for_pyg import for_loaders, new_graph

    data = new_graph()
    data.name, data.files, data.notes = name, dict(files), list(notes)
    data["user"].num_nodes, data["user"].raw_id = len(user_ids), for_loaders(user_ids)
    data["item"].num_nodes, data["item"].raw_id = len(item_ids), for_loaders(item_ids)
    for modality, (values, missing) in features.items():
        check_modality_name(modality, name)
        data["item"][modality] = torch.from_numpy(values)
        data["item"][f"{modality}_missing"] = torch.from_numpy(missing)
    rates = data[RATES]
    for code, split in enumerate(SPLITS):
        part = rows.take(rows.split == code)
        rates[attribute_of("edge_index", split)] = torch.from_numpy(np.stack((part.users, part.items)))
        for attribute, known in (("time", part.time), ("rating", part.rating)):
            if known is not None:
                rates[attribute_of(attribute, split)] = torch.from_numpy(known)
    data[RATED_BY].edge_index = rates.edge_index.flip(0)
    for kind in KINDS:
        data[kind].n_id = torch.arange(count(data, kind))
    data.split_checksums = {split: checksum(edges_of(data, split)) for split in SPLITS[1:]}
    without = int((np.bincount(rows.users[rows.split == 0], minlength=len(user_ids)) == 0).sum())
    if without:
        data.notes.append(
            f"{name}: {without:,} of {len(user_ids):,} users have no training interaction; evaluation leaves them out"
        )
    return data


def modalities(data: HeteroData) -> dict[str, Tensor]:
    """Item features by name: every floating tensor [I, d] on ``data['item']`` (hand-made data may call it ``x``).

    Raises:
        DataError: A name cannot serve; see :func:`check_modality_name`.
    """
    items = count(data, "item")
    features = {
        name: value
        for name, value in data["item"].items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() == 2 and value.size(0) == items
        if not name.endswith("_missing")
    }
    for name in features:
        check_modality_name(name)
    return features


def chosen_modalities(data: HeteroData, chosen: Any) -> dict[str, Tensor]:
    """Features ``{name: [I, d]}`` of ``data``: all for None, those of a list of names, or a mapping as it is.

    Raises:
        ConfigError: ``chosen`` is something else, or names a modality that is not in ``data``.
    """
    features = modalities(data)
    if chosen is None:
        return features
    if isinstance(chosen, Mapping):
        return dict(chosen)
    if not isinstance(chosen, (list, tuple)) or not all(isinstance(name, str) for name in chosen):
        raise ConfigError(f"modalities: got {shown(chosen)}, expected a list of names")
    if unknown := [name for name in chosen if name not in features]:
        raise ConfigError(f"modalities: got {shown(unknown[0])}, the dataset has {', '.join(features) or 'none'}")
    return {name: features[name] for name in chosen}


def check_features(features: Mapping[str, Tensor], num_items: int) -> None:
    """Refuse features that are not ``{name: [num_items, d]}`` with names that :func:`check_modality_name` accepts."""
    if not isinstance(features, Mapping):
        raise ConfigError(f"modalities: got a {type(features).__name__}, expected {{name: tensor}}")
    for name, feature in features.items():
        check_modality_name(name)
        if not isinstance(feature, torch.Tensor):
            raise ConfigError(f"modality {name}: got a {type(feature).__name__}, expected a tensor [{num_items}, d]")
        if feature.dim() != 2 or feature.size(0) != num_items:
            raise ConfigError(f"modality {name}: got shape {list(feature.shape)}, expected [{num_items}, d]")


def check_modality_name(name: str, where: str = "data['item']") -> None:
    """Refuse a name that cannot be both an attribute of ``data['item']`` and a key of ``torch.nn.ModuleDict``."""
    from torch_geometric.data.storage import NodeStorage

    check_modality_word(name, where)
    if hasattr(torch.nn.ModuleDict(), name) or hasattr(NodeStorage, name):
        _refuse_modality(name, where)


def check_modality_word(name: str, where: str) -> None:
    """As :func:`check_modality_name`, as far as can be told without importing PyTorch."""
    taken = keyword.iskeyword(name) or name in TAKEN_WORDS or name.endswith("_missing")
    if taken or not name.isidentifier() or name.startswith("_"):
        _refuse_modality(name, where)


def _refuse_modality(name: str, where: str) -> NoReturn:
    raise DataError(
        f"{where}: {name!r} cannot name a modality, expected a Python identifier such as 'image' that is not "
        f"'user', 'item' or a word of PyTorch's own and does not end in '_missing'"
    )


def index_of(data: HeteroData, kind: Literal["user", "item"], ids: Iterable[object]) -> Tensor:
    """Indices [n] of users or items given by their own ids, compared as strings.

    White space around an id counts where the data has it, else it does not. Where the data has no ``raw_id``, the ids
    are the indices.

    Raises:
        DataError: Some ids are unknown; the first few are named.
    """
    values = ids.tolist() if isinstance(ids, (torch.Tensor, np.ndarray)) else list(ids)
    texts = pl.Series([str(value) for value in values], dtype=pl.String)
    catalogue = raw_ids(data, kind)
    indices = look_up(to_series(catalogue), texts)
    if (unknown := np.flatnonzero(indices < 0)).size:
        name = getattr(data, "name", None) or "data"
        how_many = f"{len(unknown):,} of {len(texts):,} {kind} ids are unknown"
        expected = f"expected ids such as {shown(str(catalogue[0]))}"
        first_few = [shown(texts[row]) for row in unknown[:3].tolist()]
        if isinstance(ids, IdList):
            where = ids.where(int(unknown[0]))
            raise DataError(f"{where}: {first_few[0]} is no {kind} of {name} ({how_many}), {expected}")
        listed = ", ".join([*first_few, *(["..."] if len(unknown) > 3 else [])])
        raise DataError(f"{name}: {how_many} ({listed}), {expected}")
    return torch.from_numpy(indices)


def training_of(data: HeteroData) -> tuple[int, int, Tensor]:
    """Number of users, number of items, and the training interactions [2, E]: what every recommender is made of."""
    return count(data, "user"), count(data, "item"), edges_of(data, "train")


def raw_ids(data: HeteroData, kind: str) -> Ids:
    """Users' or items' own ids [n]; the indices themselves where there are none.

    Raises:
        DataError: There are more or fewer ids than nodes.
    """
    own, number = own_ids(data, kind), count(data, kind)
    if own.shape != (number,):
        raise DataError(
            f"data[{kind!r}].raw_id: shape {list(own.shape)}, expected one id for each of {number:,} {kind}s"
        )
    return own


def own_ids(data: HeteroData, kind: str) -> Ids:
    """``raw_id`` as an array, or the indices [n] where there is none."""
    own = data[kind].get("raw_id") if kind in data.node_types else None
    if own is None:
        return np.arange(count(data, kind))
    return np.asarray(own.cpu() if isinstance(own, torch.Tensor) else own)


def missing_of(data: HeteroData, modality: str) -> NDArray[np.bool_]:
    """Mask [I] of the items whose feature was filled in; none where the data does not say.

    Raises:
        DataError: The mask is not [I].
    """
    missing, items = data["item"].get(f"{modality}_missing"), count(data, "item")
    if missing is None:
        return np.zeros(items, dtype=bool)
    mask = torch.as_tensor(missing).detach().cpu().bool().numpy()
    if mask.shape != (items,):
        raise DataError(f"data['item'].{modality}_missing: shape {list(mask.shape)}, expected [{items}]")
    return mask
