"""Other libraries that must be told of corten: einops.

einops finds the functions for a tensor through a class of its own, which it looks for among the subclasses of its
`AbstractBackend`. `register()` makes such a class as soon as einops is there: at once if it was imported before corten,
and otherwise at the end of its import, for which a finder waits at the front of `sys.meta_path`. So corten neither
needs einops nor imports it, and `from einops import rearrange` just works.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import functions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

__all__ = ["register"]

#: The module of einops where backends are looked for.
_WAITED_FOR = "einops._backends"


def _teach(einops: ModuleType) -> None:
    """Make the class that einops finds; `einops` is its module of backends."""
    base: Any = getattr(einops, "AbstractBackend", None)
    if base is None:  # an einops that works otherwise: it will say that it does not know our tensors
        return

    class CortenBackend(base):  # type: ignore[misc]  # a base class that is known at run time only
        framework_name = "corten"

        def is_appropriate_type(self, tensor: object) -> bool:
            return isinstance(tensor, functions.Tensor)

        def from_numpy(self, x: Any) -> functions.Tensor:
            return functions.asarray(x)

        def to_numpy(self, x: functions.Tensor) -> Any:
            return x.detach().numpy()

        def arange(self, start: int, stop: int) -> functions.Tensor:
            return functions.arange(start, stop)

        def reshape(self, x: functions.Tensor, shape: Sequence[int]) -> functions.Tensor:
            return functions.reshape(x, tuple(shape))

        def transpose(self, x: functions.Tensor, axes: Sequence[int]) -> functions.Tensor:
            return functions.permute_dims(x, tuple(axes))

        def reduce(self, x: functions.Tensor, operation: str, axes: Sequence[int]) -> functions.Tensor:
            result: functions.Tensor = getattr(functions, operation)(x, axis=tuple(axes))
            return result

        def stack_on_zeroth_dimension(self, tensors: list[functions.Tensor]) -> functions.Tensor:
            return functions.stack(tensors)

        def add_axis(self, x: functions.Tensor, new_position: int) -> functions.Tensor:
            return functions.expand_dims(x, new_position)

        def add_axes(self, x: functions.Tensor, n_axes: int, pos2len: dict[int, int]) -> functions.Tensor:
            for position in pos2len:
                x = functions.expand_dims(x, position)
            # A view: nothing is repeated in memory until it must be.
            return functions.broadcast_to(x, tuple(pos2len.get(d, n) for d, n in enumerate(x.shape)))

        def tile(self, x: functions.Tensor, repeats: Sequence[int]) -> functions.Tensor:
            return functions.tile(x, tuple(repeats))

        def concat(self, tensors: list[functions.Tensor], axis: int) -> functions.Tensor:
            return functions.concat(tensors, axis=axis)

        def is_float_type(self, x: functions.Tensor) -> bool:
            return x.dtype.is_floating_point

        def einsum(self, pattern: str, *x: functions.Tensor) -> functions.Tensor:
            return functions.einsum(pattern, *x)

    # einops finds the class by asking its base for subclasses, which holds them weakly.
    einops.CortenBackend = CortenBackend  # type: ignore[attr-defined]


class _TeachingLoader:
    """Loads a module as `loader` does, and then teaches it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # From here on the module looks as if nobody had waited for it.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _teach(module)


class _Finder:
    """Finds nothing itself: asks the finders behind it for the one module, and puts its loader around theirs."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _WAITED_FOR:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _TeachingLoader(spec.loader)  # type: ignore[assignment]  # a loader by what it does
                return spec
        return None


def register() -> None:
    """Teach einops, now if it is loaded, else when it is; calling this again changes nothing."""
    loaded = sys.modules.get(_WAITED_FOR)
    if loaded is not None:
        if not hasattr(loaded, "CortenBackend"):
            _teach(loaded)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
