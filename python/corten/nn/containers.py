"""Modules that hold modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

from ..autograd import anomaly
from .activation import ReLU
from .conv import Conv2d
from .linear import Linear
from .module import Module

__all__ = ["Identity", "ModuleDict", "ModuleList", "Sequential"]


def _what(value: object) -> str:
    """A wrong member, for error messages: the class where an instance was meant is the usual mistake."""
    if isinstance(value, type):
        return f"the class {value.__name__} (make an instance: {value.__name__}())"
    return type(value).__name__


class Identity(Module):
    """Returns its input: a stand-in where a layer is optional."""

    def forward(self, x: Any) -> Any:
        """x (*) -> (*), the same object."""
        return x


def check_name(container: Module, name: object) -> None:
    """Raise unless a module of the container may have this name: a text that hides no method."""
    kind = type(container).__name__
    if not isinstance(name, str):
        raise TypeError(f"[{kind}] names are texts, got {name!r}")
    if not name or hasattr(type(container), name):
        what = "is empty" if not name else "is the name of a method or attribute of every module"
        raise KeyError(f"[{kind}] {name!r} {what}; choose another")


class _Numbered(Module):
    """Modules under the names "0", "1", ..."""

    def __len__(self) -> int:
        return sum(isinstance(value, Module) for value in self.__dict__.values())

    def __iter__(self) -> Iterator[Module]:
        return iter([value for value in self.__dict__.values() if isinstance(value, Module)])

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module | Self:
        modules = list(self)
        if isinstance(index, slice):
            return self._from(modules[index])
        try:
            return modules[index]
        except IndexError:
            raise IndexError(
                f"[{type(self).__name__}] index {index} is out of range for {len(modules)} modules"
            ) from None

    def __setitem__(self, index: int, module: Module) -> None:
        names = [name for name, value in self.__dict__.items() if isinstance(value, Module)]
        try:
            name = names[index]
        except IndexError:
            raise IndexError(
                f"[{type(self).__name__}] index {index} is out of range for {len(names)} modules"
            ) from None
        self._check(module)
        setattr(self, name, module)

    def append(self, module: Module) -> Self:
        """Add a module at the end. Returns the container."""
        self._check(module)
        setattr(self, str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end. Returns the container."""
        for module in modules:
            self.append(module)
        return self

    def _check(self, module: object) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"[{type(self).__name__}] holds modules, got {_what(module)}")

    @classmethod
    def _from(cls, modules: Iterable[Module]) -> Self:
        raise NotImplementedError


class Sequential(_Numbered):
    """A chain of modules: the output of each is the input of the next.

    `Sequential(a, b, ...)` names them "0", "1", ...; `Sequential({"first": a, "second": b})` keeps the names.
    It can be indexed, sliced and iterated.

    A `Linear` or `Conv2d` followed by a `ReLU` runs as one fused operation, with the same result.

    >>> import corten as ct
    >>> from corten import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net(ct.zeros((3, 4))).shape
    (3, 2)
    >>> net
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named: dict[str, Any] = dict(modules[0])
        else:
            named = {str(i): module for i, module in enumerate(modules)}
        for name, module in named.items():
            self._check(module)
            check_name(self, name)
            setattr(self, name, module)

    @classmethod
    def _from(cls, modules: Iterable[Module]) -> Self:
        return cls(*modules)

    def forward(self, x: Any) -> Any:
        """Pass `x` through the modules in order."""
        modules = [value for value in self.__dict__.values() if isinstance(value, Module)]
        last = len(modules) - 1
        fused = False
        for i, module in enumerate(modules):
            if fused:  # this ReLU ran with the layer before it
                fused = False
                continue
            # Exact types only: a subclass may compute something else.
            kind = type(module)
            fused = (kind is Linear or kind is Conv2d) and i < last and type(modules[i + 1]) is ReLU
            fused = fused and not anomaly.active  # which names single layers
            x = module.forward(x, activation="relu") if fused else module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules whose parameters are found; it has no forward of its own.

    >>> from corten import nn
    >>> layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    >>> len(layers), [name for name, _ in layers.named_parameters()]
    (2, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    @classmethod
    def _from(cls, modules: Iterable[Module]) -> Self:
        return cls(modules)


class ModuleDict(Module):
    """A dictionary of modules whose parameters are found; it has no forward of its own.

    >>> from corten import nn
    >>> heads = nn.ModuleDict({"digits": nn.Linear(8, 10)})
    >>> list(heads), heads["digits"].out_features
    (['digits'], 10)
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, module in (modules or {}).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        value = self.__dict__.get(name)
        if not isinstance(value, Module):
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"[ModuleDict] holds modules, got {_what(module)}")
        check_name(self, name)
        setattr(self, name, module)

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and isinstance(self.__dict__.get(name), Module)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> list[str]:
        """The names, in the order in which they were added."""
        return [name for name, value in self.__dict__.items() if isinstance(value, Module)]

    def values(self) -> list[Module]:
        """The modules, in the order in which they were added."""
        return [value for value in self.__dict__.values() if isinstance(value, Module)]

    def items(self) -> list[tuple[str, Module]]:
        """Names and modules, in the order in which they were added."""
        return [(name, value) for name, value in self.__dict__.items() if isinstance(value, Module)]
