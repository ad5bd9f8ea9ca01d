"""corten: a deep-learning framework in one small wheel.

Rust kernels, automatic differentiation in Rust, PyTorch-style modules, Keras-style training.

>>> import corten as ct
>>> x = ct.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad.tolist()
[[2.0, 4.0], [6.0, 8.0]]

The array functions (`ct.matmul`, `ct.exp`, ...) follow the Python Array API standard; `ct.nn` and `ct.optim` follow
PyTorch's names; `ct.train` follows Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import autograd, functions, interop, namespace
from ._core import __version__
from .autograd import detect_anomaly, hessian, hvp, jacobian, jvp, value_and_grad, vjp, why_no_grad
from .functions import *  # noqa: F403 - functions.__all__ says which names
from .namespace import *  # noqa: F403 - as above
from .namespace import __array_api_version__, __array_namespace_info__

if TYPE_CHECKING:
    from . import data, datasets, io, models, nn, optim, testing, text, train, viz

interop.register()

# Loaded when first used, so that `import corten` costs little beyond NumPy.
_SUBMODULES = ("data", "datasets", "io", "models", "nn", "optim", "testing", "text", "train", "viz")

# The standard's name; not in __all__, where it would hide Python's from `import *`.
bool = functions.bool_

__all__ = ["__array_api_version__", "__array_namespace_info__", "__version__"]
__all__ += ["data", "datasets", "functions", "io", "models", "nn", "optim", "testing", "text", "train", "viz"]
__all__ += ["autograd", "detect_anomaly", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp", "why_no_grad"]
__all__ += functions.__all__
__all__ += namespace.__all__


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'corten' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
