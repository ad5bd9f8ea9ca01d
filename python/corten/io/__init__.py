"""Files: tensors in the safetensors format. Nothing is executed from a file."""

from __future__ import annotations

from .safetensors import load, load_metadata, save

__all__ = ["load", "load_metadata", "save"]
