"""What must hold for a dataset whatever PyG does to it: transforms, loaders, copies."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.loader import NeighborLoader, NodeLoader
from torch_geometric.sampler import BaseSampler, EdgeSamplerInput, HeteroSamplerOutput, NodeSamplerInput
from torch_geometric.typing import WITH_PYG_LIB, WITH_TORCH_SPARSE

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_dataset, recommend
from bm3_pyg.data import describe, edges_of, export_dataset, fingerprint, modalities, raw_ids
from bm3_pyg.data.cache import cached
from bm3_pyg.data.edges import RATED_BY, RATES, edge_values, interactions_of
from bm3_pyg.data.hetero import build, missing_of
from bm3_pyg.data.splits import Interactions
from bm3_pyg.errors import DataError
from bm3_pyg.eval.cold import with_cold_items
from bm3_pyg.eval.users import user_metrics
from bm3_pyg.models import ItemKNN, Popularity
from bm3_pyg.names import SPLITS
from bm3_pyg.serving.embeddings import export_embeddings

pytestmark = pytest.mark.usefixtures("sound_parquet")

USERS, ITEMS = 30, 20


def made(user_ids: Any, item_ids: Any, pairs: dict[str, list[tuple[int, int]]], values: np.ndarray) -> HeteroData:
    """A dataset whose times and ratings are functions of the interaction."""
    rows = np.array([pair for split in SPLITS for pair in pairs[split]])
    split = np.repeat(np.arange(3, dtype=np.int8), [len(pairs[one]) for one in SPLITS])
    users, items = np.asarray(user_ids)[rows[:, 0]], np.asarray(item_ids)[rows[:, 1]]
    number = np.char.strip(users.astype(str), "u").astype(int) * 100 + np.char.strip(items.astype(str), "i").astype(int)
    return build(
        "toy",
        Interactions(rows[:, 0], rows[:, 1], split, time=number, rating=(number % 5).astype(np.float32)),
        user_ids=np.asarray(user_ids),
        item_ids=np.asarray(item_ids),
        features={"image": (values, values[:, 0] < -0.5)},
        files={"toy.csv": "abc"},
        notes=[],
    )


def whole(strings: bool, equal: bool = False) -> HeteroData:
    """With ``equal``, every split has as many interactions as any other."""
    rng = np.random.default_rng(0)
    pairs: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
    for user in range(USERS):
        for at, item in enumerate(rng.choice(ITEMS, 12 if equal else 8, replace=False).tolist()):
            split = SPLITS[at % 3] if equal else "val" if at == 0 else "test" if at < 3 else "train"
            pairs[split].append((user, item))
    names = (
        [f"{'u' if strings else ''}{7 * user}" for user in range(USERS)],
        [f"{'i' if strings else ''}{3 * item}" for item in range(ITEMS)],
    )
    users, items = (np.array(one) if strings else np.array(one, dtype=np.int64) for one in names)
    return made(users, items, pairs, rng.standard_normal((ITEMS, 4)).astype(np.float32))


def part(data: HeteroData, users: Tensor, items: Tensor) -> HeteroData:
    """The same users and items of ``data`` taken by hand, in the slowest way."""
    new_user = {int(old): new for new, old in enumerate(users)}
    new_item = {int(old): new for new, old in enumerate(items)}
    pairs = {}
    for split in SPLITS:
        name = "edge_index" if split == "train" else f"{split}_edge_index"
        pairs[split] = [
            (new_user[u], new_item[i]) for u, i in data[RATES][name].T.tolist() if u in new_user and i in new_item
        ]
    ids = data["user"].raw_id[users.numpy()], data["item"].raw_id[items.numpy()]
    return made(*ids, pairs, data["item"].image[items].numpy())


@pytest.fixture(
    params=[(False, False), (True, False), (True, True)], ids=["integer ids", "string ids", "splits of one size"]
)
def data(request: pytest.FixtureRequest) -> HeteroData:
    return whole(*request.param)


def contents(data: HeteroData) -> set[tuple[Any, ...]]:
    """Every interaction of a dataset in its own ids, with its split, time and rating."""
    found = set()
    users, items = raw_ids(data, "user"), raw_ids(data, "item")
    for split in SPLITS:
        time, rating = (edge_values(data, name, split) for name in ("time", "rating"))
        assert time is not None
        assert rating is not None
        for (user, item), *values in zip(edges_of(data, split).T.tolist(), time.tolist(), rating.tolist(), strict=True):
            found.add((split, str(users[user]), str(items[item]), *values))
    return found


def features(data: HeteroData) -> dict[str, tuple[Any, ...]]:
    values, missing = modalities(data)["image"].tolist(), missing_of(data, "image").tolist()
    return {str(own): (*row, gone) for own, row, gone in zip(raw_ids(data, "item"), values, missing, strict=True)}


SUBSETS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "items": lambda: {"item": torch.arange(3, ITEMS, 2)},
    "users": lambda: {"user": torch.arange(5, 25)},
    "both": lambda: {"user": torch.arange(0, USERS, 3), "item": torch.arange(1, ITEMS)},
    "in another order": lambda: {"item": torch.randperm(ITEMS, generator=torch.Generator().manual_seed(0))},
    "a mask": lambda: {"item": torch.arange(ITEMS) % 3 != 0},
    "the first": lambda: {"item": torch.arange(10)},
}


@pytest.mark.parametrize("chosen", SUBSETS.values(), ids=SUBSETS)
def test_a_subgraph_is_the_dataset_of_its_nodes(data: HeteroData, chosen: Callable[[], dict[str, Tensor]]) -> None:
    subset = chosen()
    found = data.subgraph(dict(subset))
    kept = {}
    for kind, number in (("user", USERS), ("item", ITEMS)):
        rows = subset.get(kind, torch.arange(number))
        kept[kind] = rows.nonzero().view(-1) if rows.dtype == torch.bool else rows
    expected = part(data, kept["user"], kept["item"])
    assert fingerprint(found) == fingerprint(expected)
    assert contents(found) == contents(expected)
    assert features(found) == features(expected)
    told, wanted = describe(found), describe(expected)
    assert {key: told[key] for key in told if key != "notes"} == {key: wanted[key] for key in wanted if key != "notes"}
    again = found.subgraph({"user": torch.arange(3, found["user"].num_nodes)})
    assert contents(again) == contents(part(data, kept["user"][3:], kept["item"]))


def test_figures_of_a_subgraph_are_those_of_its_own_dataset() -> None:
    data = load_dataset("demo")
    kept = torch.arange(0, 1000, 2)
    by_pyg = data.subgraph({"item": kept})
    by_hand = copy.copy(by_pyg)
    place = torch.full((1000,), -1)
    place[kept] = torch.arange(500)
    for split in ("val", "test"):
        edges = data[RATES][f"{split}_edge_index"]
        edges = torch.stack([edges[0], place[edges[1]]])
        by_hand[RATES][f"{split}_edge_index"] = edges[:, edges[1] >= 0]
    assert fingerprint(by_pyg) == fingerprint(by_hand)
    torch.manual_seed(0)
    model = BM3.from_data(by_pyg)
    fit(model, by_pyg, TrainConfig(max_epochs=1), verbose=False)
    assert evaluate(model, by_pyg) == evaluate(model, by_hand)
    seen = set(map(tuple, torch.cat([edges_of(by_hand, split) for split in SPLITS], dim=1).T.tolist()))
    users = edges_of(by_hand, "test")[0].unique()[:50]
    lists, _ = recommend(model, users, k=100, exclude=by_pyg)
    assert not seen & {(int(user), item) for user, items in zip(users, lists.tolist(), strict=True) for item in items}


class Kept(InMemoryDataset):  # type: ignore[misc]
    """What PyG's datasets keep in memory."""

    def __init__(self, graphs: list[HeteroData]) -> None:
        super().__init__()
        self.data, self.slices = self.collate(graphs)


def test_a_model_of_the_whole_does_not_rank_a_part() -> None:
    data = whole(strings=False)
    for model in (BM3.from_data(data), ItemKNN.from_data(data), Popularity.from_data(data)):
        for kind, number in (("item", ITEMS), ("user", USERS)):
            found = data.subgraph({kind: torch.arange(number - 3)})
            if kind == "user" and not hasattr(model, "num_users"):
                continue
            with pytest.raises(DataError, match=rf"{number}.*data has {number - 3}|items, the"):
                evaluate(model, found)
            with pytest.raises(DataError, match=rf"data has {number - 3}|exclude: has {number - 3} items"):
                recommend(model, [0], k=1, exclude=found)
            if model.__class__ is BM3:
                calls: list[Callable[[], object]] = [
                    lambda: evaluate(model, found, sampled=5),  # noqa: B023
                    lambda: fit(model, found, TrainConfig(max_epochs=1), verbose=False),  # noqa: B023
                    lambda: user_metrics(model, found),  # noqa: B023
                    lambda: with_cold_items(model, found),  # noqa: B023
                    lambda: export_embeddings(model, found, Path("never"), "npy"),  # noqa: B023
                ]
                for call in calls:
                    with pytest.raises(
                        DataError, match=rf"model: made for {number} {kind}s, the data has {number - 3}"
                    ):
                        call()


SAME: dict[str, Callable[[HeteroData], HeteroData]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "clone": lambda data: data.clone(),
    "to": lambda data: data.to("cpu"),
    "contiguous": lambda data: data.contiguous(),
    "pickle": lambda data: pickle.loads(pickle.dumps(data)),
    "to_undirected": lambda data: T.ToUndirected()(data),
    "random_node_split": lambda data: T.RandomNodeSplit(key=None, num_val=2, num_test=2)(data),
    "remove_isolated_nodes": lambda data: T.RemoveIsolatedNodes()(data),
    "remove_duplicated_edges": lambda data: T.RemoveDuplicatedEdges(key=["time", "rating"], reduce="min")(data),
    "add_self_loops": lambda data: T.AddSelfLoops()(data),
    "compose": lambda data: T.Compose([T.ToUndirected(), T.NormalizeFeatures(), T.ToDevice("cpu")])(data),
    "edge_type_subgraph": lambda data: data.edge_type_subgraph([RATES]),
    "node_type_subgraph": lambda data: data.node_type_subgraph(["user", "item"]),
    "turned twice": lambda data: data.subgraph({"item": torch.arange(ITEMS).flip(0)}).subgraph(
        {"item": torch.arange(ITEMS).flip(0)}
    ),
    "in the cache": lambda data: [cached("toy", {"data": fingerprint(data)}, lambda: data) for _ in "ab"][1],
    "in a dataset": lambda data: Kept([data])[0],
    "subgraph of all": lambda data: data.subgraph({"item": torch.arange(ITEMS)}),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_changes_no_node_changes_no_interaction(
    data: HeteroData, change: Callable[[HeteroData], HeteroData]
) -> None:
    before = contents(data)
    found = change(data)
    assert contents(found) == before == contents(data)
    assert features(found) == features(data)


def test_torch_save(data: HeteroData) -> None:
    file = io.BytesIO()
    torch.save(data.subgraph({"item": torch.arange(9, 2, -1)}), file)
    file.seek(0)
    found = torch.load(file, weights_only=False)
    assert contents(found) == contents(part(data, torch.arange(USERS), torch.arange(9, 2, -1)))


def test_isolated_nodes_take_their_held_out_interactions_along(data: HeteroData) -> None:
    lonely = int(data[RATES].test_edge_index[1, 0])
    rates = data[RATES]
    kept = rates.edge_index[1] != lonely
    rates.edge_index, rates.time, rates.rating = rates.edge_index[:, kept], rates.time[kept], rates.rating[kept]
    data[RATED_BY].edge_index = rates.edge_index.flip(0)
    found = T.RemoveIsolatedNodes()(data)
    assert contents(found) == {row for row in contents(data) if row[2] != str(data["item"].raw_id[lonely])}


def test_random_link_split_splits_the_training_interactions(data: HeteroData) -> None:
    split = T.RandomLinkSplit(num_val=0.1, num_test=0.1, edge_types=RATES, rev_edge_types=RATED_BY)
    before = contents(data)
    for found in split(data):
        assert contents(found) < before
        assert {row for row in contents(found) if row[0] != "train"} == {row for row in before if row[0] != "train"}
        assert evaluate(BM3.from_data(found), found)


class Neighbours(BaseSampler):  # type: ignore[misc]
    """Users and every item of theirs, in the order of appearance: what PyG's own samplers give, without pyg-lib."""

    edge_permutation = None

    def __init__(self, data: HeteroData) -> None:
        self.edge_index = data[RATES].edge_index

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> HeteroSamplerOutput:
        place = {int(user): new for new, user in enumerate(index.node)}
        edges = [at for at, user in enumerate(self.edge_index[0].tolist()) if user in place]
        items = list(dict.fromkeys(self.edge_index[1, edges].tolist()))
        row = torch.tensor([place[user] for user in self.edge_index[0, edges].tolist()])
        column = torch.tensor([items.index(item) for item in self.edge_index[1, edges].tolist()])
        return HeteroSamplerOutput(
            node={"user": index.node, "item": torch.tensor(items)},
            row={RATES: row, RATED_BY: column},
            col={RATES: column, RATED_BY: row},
            edge={RATES: torch.tensor(edges), RATED_BY: torch.tensor(edges)},
            metadata=(index.input_id, index.time),
        )

    def sample_from_edges(self, index: EdgeSamplerInput, **kwargs: Any) -> HeteroSamplerOutput:
        raise NotImplementedError


def batches(data: HeteroData) -> Iterator[HeteroData]:
    users = torch.randperm(data["user"].num_nodes, generator=torch.Generator().manual_seed(1))
    yield from NodeLoader(data, Neighbours(data), input_nodes=("user", users), batch_size=7)


@pytest.mark.parametrize("subset", [False, True])
def test_a_loaders_batches(data: HeteroData, subset: bool) -> None:
    if subset:
        data = data.subgraph({"user": torch.arange(29, 4, -1), "item": torch.arange(2, ITEMS)})
    everything = contents(data)
    seen = set()
    for batch in batches(data):
        found = contents(batch)
        assert features(batch).items() <= features(data).items()
        assert found <= everything
        users = {str(one) for one in raw_ids(batch, "user")}
        items = {str(one) for one in raw_ids(batch, "item")}
        assert found == {row for row in everything if row[1] in users and row[2] in items}
        seen |= {row for row in found if row[0] == "train"}
    assert seen == {row for row in everything if row[0] == "train"}


@pytest.mark.skipif(not (WITH_PYG_LIB or WITH_TORCH_SPARSE), reason="PyG's samplers need pyg-lib or torch_sparse")
def test_neighbor_loader(data: HeteroData) -> None:
    everything, seen = contents(data), set()
    for batch in NeighborLoader(data, [-1, -1], input_nodes="user", batch_size=9):
        found = contents(batch)
        users, items = ({str(one) for one in raw_ids(batch, kind)} for kind in ("user", "item"))
        held_out = {row for row in everything if row[0] != "train" and row[1] in users and row[2] in items}
        assert {row for row in found if row[0] != "train"} == held_out
        assert found <= everything
        seen |= found
    assert {row for row in everything if row[0] == "train"} <= seen


def test_own_ids_stay_arrays() -> None:
    data = whole(strings=True)
    own = data["item"].raw_id
    assert isinstance(own, np.ndarray)
    assert own[2] == "i6"
    assert own.tolist()[:2] == ["i0", "i3"]
    assert repr(data).count("raw_id=[") == 2
    assert "raw_id" not in data.to_homogeneous()


def test_splits_put_in_place_are_in_present_numbers(data: HeteroData) -> None:
    found = data.subgraph({"item": torch.arange(5, ITEMS)})
    found[RATES].test_edge_index = torch.tensor([[0, 1], [14, 3]])
    assert edges_of(found, "test").tolist() == [[0, 1], [14, 3]]
    found[RATES].test_edge_index = torch.tensor([[0, 1], [15, 3]])
    with pytest.raises(DataError, match=r"test_edge_index: item 15 in column 0, expected 0 to 14$"):
        edges_of(found, "test")


def test_numbers_that_lead_nowhere_are_refused(data: HeteroData) -> None:
    twice = data.subgraph({"item": torch.tensor([3, 3, 4])})
    with pytest.raises(DataError, match=r"data\['item'\]\.n_id: 2 distinct of 3 numbers"):
        edges_of(twice, "val")
    unknown = data.subgraph({"item": torch.arange(ITEMS - 1, -1, -1)})
    del unknown.split_checksums
    with pytest.raises(DataError, match="the nodes were renumbered"):
        edges_of(unknown, "val")
    with pytest.raises(DataError, match="got a Data, expected a HeteroData"):
        edges_of(data.to_homogeneous(), "train")


@pytest.mark.parametrize("format", ["mmrec", "parquet"])
def test_a_subgraph_is_exported_and_read_back(data: HeteroData, tmp_path: Path, format: str) -> None:
    found = data.subgraph({"user": torch.arange(2, USERS), "item": torch.arange(ITEMS - 1, 3, -1)})
    export_dataset(found, tmp_path / "out", format)
    if format == "mmrec":
        again = load_dataset(tmp_path / "out")
    else:
        table = tmp_path / "out" / "interactions.parquet"
        again = load_dataset(
            table, label="label", time="time", rating="rating", items=tmp_path / "out" / "items.parquet",
            features={"image": tmp_path / "out" / "image.parquet"},
        )  # fmt: skip
    assert contents(again) == contents(found)
    assert interactions_of(found).time is not None


def hand_made(**splits: Any) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data[RATES].edge_index = torch.tensor([[0, 1, 2], [0, 1, 2]])
    for name, edges in splits.items():
        data[RATES][name] = edges
    return data


WRONG = {
    "a user beyond": (torch.tensor([[3], [0]]), "user 3 in column 0, expected 0 to 2"),
    "an item beyond": (torch.tensor([[0, 0], [3, 4]]), "item 4 in column 1, expected 0 to 3"),
    "a negative": (torch.tensor([[0], [-1]]), "item -1 in column 0"),
    "a huge": (torch.tensor([[0], [2**62]]), "item 4611686018427387904 in column 0"),
    "floats": (torch.tensor([[0.0], [1.0]]), "got float32, expected integers"),
    "NaN": (torch.tensor([[0.0], [float("nan")]]), "got float32, expected integers"),
    "booleans": (torch.tensor([[True], [False]]), "got bool, expected integers"),
    "one row": (torch.tensor([0, 1]), r"shape \[2\], expected \[2, E\]"),
    "three rows": (torch.zeros(3, 5, dtype=torch.long), r"shape \[3, 5\], expected \[2, E\]"),
    "pairs": (torch.zeros(5, 2, dtype=torch.long), r"shape \[5, 2\], expected \[2, E\]"),
    "an array": (np.zeros((2, 1), dtype=np.int64), "got a ndarray, expected a tensor"),
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("edges", "message"), WRONG.values(), ids=WRONG)
def test_wrong_interactions_are_refused_wherever_a_graph_enters(split: str, edges: Any, message: str) -> None:
    sound = hand_made(
        val_edge_index=torch.tensor([[0], [1]]), test_edge_index=torch.tensor([[1], [2]], dtype=torch.int32)
    )
    model = BM3.from_data(sound)
    name = "edge_index" if split == "train" else f"{split}_edge_index"
    assert evaluate(model, sound)["recall@5"] == 1
    sound[RATES][name] = edges
    calls: list[Callable[[], object]] = [
        lambda: evaluate(model, sound),
        lambda: recommend(model, [0], k=1, exclude=sound),
        lambda: fingerprint(sound),
        lambda: describe(sound),
        lambda: fit(model, sound, TrainConfig(max_epochs=1), verbose=False),
        lambda: interactions_of(sound),
    ]
    for call in calls:
        with pytest.raises(DataError, match=rf"\.{name}: .*{message}"):
            call()


def test_ids_and_masks_have_one_entry_a_node() -> None:
    data = whole(strings=True)
    data["item"].raw_id = data["item"].raw_id[1:]
    with pytest.raises(
        DataError, match=r"^data\['item'\]\.raw_id: shape \[19\], expected one id for each of 20 items$"
    ):
        raw_ids(data, "item")
    data["item"].image_missing = data["item"].image_missing[1:]
    with pytest.raises(DataError, match=r"image_missing: shape \[19\], expected \[20\]"):
        missing_of(data, "image")
    data[RATES].val_time = data[RATES].val_time[1:]
    with pytest.raises(DataError, match=r"val_time: 29 values, expected one for each of 30"):
        interactions_of(data)
