"""The published datasets for those who work with PyG's dataset classes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch_geometric.data import InMemoryDataset
from torch_geometric.data.dataset import files_exist

from bm3_pyg.data.amazon.prepare import Preprocessing, prepare_amazon, prepared_folder
from bm3_pyg.data.amazon.raw_files import Origin, at_hand, gather, wanted
from bm3_pyg.data.load import load_dataset
from bm3_pyg.data.prepared import CARD, read_card


class AmazonMultimodal(InMemoryDataset):
    r"""Amazon baby, sports or electronics with text and image features, as one :class:`HeteroData`.

    ``AmazonMultimodal("data", "baby")[0]`` is ``load_dataset(prepare_amazon("baby", "data"))``: raw files are
    downloaded into ``data/raw`` and prepared into ``data/baby``, unless they are there already. What is read back is
    the prepared folder's tables and arrays, never a pickle.

    Args:
        root: Folder of the raw and prepared files.
        name: ``"baby"``, ``"sports"`` or ``"electronics"``.
        urls: Other addresses of raw files, by name of the file.
        offline: Download nothing.
        transform: Applied to the data at every access.
        force_reload: Prepare anew even if the prepared folder is there.
        preprocessing: ``split``, ``seed``, ``core``, ``text_encoder``, ``images``: see
            :class:`~bm3_pyg.data.amazon.Preprocessing`.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        *,
        urls: Mapping[str, str] | None = None,
        offline: bool = False,
        transform: Callable[[Any], Any] | None = None,
        force_reload: bool = False,
        **preprocessing: Any,
    ) -> None:
        self.name = name
        self._how = Preprocessing(**preprocessing)
        self._network: dict[str, Any] = {"urls": urls or {}, "offline": offline}
        super().__init__(str(root), transform, force_reload=force_reload)
        self._data = load_dataset(self.processed_dir)

    @property
    def raw_file_names(self) -> list[str]:
        there = at_hand(self.name, [Path(self.raw_dir)])
        return wanted(self.name, self._how.core, self._how.encoder is not None, self._how.images, there)

    @property
    def processed_dir(self) -> str:
        return str(prepared_folder(self.name, Path(self.root), self._how))

    @property
    def processed_file_names(self) -> list[str]:
        return [CARD]

    def download(self) -> None:
        gather(self.name, self.raw_file_names, Origin(Path(self.root), **self._network))

    def process(self) -> None:
        prepare_amazon(self.name, self.root, **self._network, **asdict(self._how))

    def _download(self) -> None:
        """Not if it is prepared already: the raw files may be gone by then."""
        if self.force_reload or not files_exist(self.processed_paths):
            super()._download()

    def _process(self) -> None:
        """Without the base class's ``pre_transform.pt``, which it would unpickle the next time.

        A prepared folder goes through :meth:`process` too, which refuses it if its settings are others.
        """
        folder = Path(self.processed_dir)
        if self.force_reload and folder.exists():
            read_card(folder)  # refuses a folder that is not ours to remove
            shutil.rmtree(folder)
        self.process()
