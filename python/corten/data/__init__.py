"""Data: sets of samples, and loaders that make batches of them."""

from __future__ import annotations

from .dataset import Dataset, Subset, TensorDataset
from .loader import DataLoader, default_collate
from .sampler import RandomSampler, Sampler, SequentialSampler

__all__ = [
    "DataLoader",
    "Dataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "TensorDataset",
    "default_collate",
]
