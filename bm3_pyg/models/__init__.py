"""The recommenders BM3 is compared with, each in one file."""

from bm3_pyg.models.popularity import Popularity

__all__ = ["Popularity"]
