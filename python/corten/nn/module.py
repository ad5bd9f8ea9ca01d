"""Module: the base class of everything that holds parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from ..autograd import anomaly
from ..functions import Tensor, asarray, bfloat16, dtype, zeros_like
from .parameter import Parameter, is_parameter

__all__ = ["LoadResult", "Module"]


class LoadResult(NamedTuple):
    """What `Module.load_state_dict` did not match: keys the module has and the state lacks, and the other way round."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _floating_dtype(target: Any) -> bool:
    """True if `target` names a floating dtype, False if it names a device; raises for any other dtype."""
    if target == bfloat16:  # NumPy does not know it
        return True
    try:
        name = target.name if isinstance(target, dtype) else np.dtype(target).name
    except TypeError:
        return False
    if not name.startswith(("float", "bfloat")):
        raise TypeError(f"[Module.to] only floating dtypes have gradients, but got {name}")
    return True


class Module:
    """A part of a network: parameters, buffers and other modules as attributes, and a `forward` that computes.

    Whatever is set as an attribute is found: `Parameter`s, other modules, and tensors registered with
    `register_buffer` (state that is saved but not learnt). Names join with dots, as in PyTorch, so
    `state_dict` has PyTorch's keys and its checkpoints load without renaming.

    >>> import corten as ct
    >>> from corten import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = nn.Linear(4, 8)
    ...         self.out = nn.Linear(8, 2)
    ...     def forward(self, x):  # x (N, 4) -> (N, 2)
    ...         return self.out(nn.functional.relu(self.hidden(x)))
    >>> net = Net()
    >>> net(ct.zeros((3, 4))).shape
    (3, 2)
    >>> [name for name, _ in net.named_parameters()]
    ['hidden.weight', 'hidden.bias', 'out.weight', 'out.bias']
    """

    # Parameters, buffers and children live in the instance's __dict__, where Python finds them without a detour through
    # __getattr__; they are told apart when someone asks. So a subclass that forgets super().__init__() works too.
    training: bool = True
    _buffer_names: Mapping[str, bool] = {}  # name -> persistent; each instance that has buffers has a dict of its own

    def __init__(self) -> None:
        self.training = True

    def _forward_missing(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"[{type(self).__name__}] has no forward(self, ...); write one")

    # Any signature: each subclass knows its own inputs.
    forward: Callable[..., Any] = _forward_missing

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if anomaly.active:  # then every operation wants to know its layer
            with anomaly.inside(self):
                return self.forward(*args, **kwargs)
        return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        # Replacing a parameter by a plain tensor would silently take it away from the optimizer.
        if isinstance(value, Tensor) and not value.is_parameter and is_parameter(self.__dict__.get(name)):
            raise TypeError(
                f"[{type(self).__name__}] cannot set the parameter {name!r} to a plain tensor; wrap it in nn.Parameter "
                f"or write its values with .assign_"
            )
        if isinstance(value, Tensor | Module) and "." in name:
            raise KeyError(f"[{type(self).__name__}] a name may hold no dot, got {name!r}")
        object.__setattr__(self, name, value)

    def register_parameter(self, name: str, value: Tensor | None) -> None:
        """Set the attribute `name` to a parameter, or to None for one that is left out (as a bias may be).

        Raises:
            TypeError: `value` is neither a `Parameter` nor None.
        """
        if value is not None and not is_parameter(value):
            raise TypeError(
                f"[register_parameter] {name!r} must be an nn.Parameter or None, got {type(value).__name__}"
            )
        setattr(self, name, value)

    def register_buffer(self, name: str, value: Tensor | None, persistent: bool = True) -> None:
        """Set the attribute `name` to a tensor that is state but not learnt, such as a running mean.

        Buffers move with `to` and, if `persistent`, are part of `state_dict`. Setting the attribute again keeps it a
        buffer.

        Raises:
            TypeError: `value` is neither a tensor nor None.
            KeyError: the module already has another attribute of that name.
        """
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"[register_buffer] {name!r} must be a Tensor or None, got {type(value).__name__}")
        if hasattr(self, name) and name not in self._buffer_names:
            raise KeyError(f"[register_buffer] {type(self).__name__} already has an attribute {name!r}")
        setattr(self, name, value)
        self._buffer_names = {**self._buffer_names, name: persistent}

    # -- finding things

    def _own_parameters(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self.__dict__.items():
            if isinstance(value, Tensor) and value.is_parameter and name not in self._buffer_names:
                yield name, value

    def _own_buffers(self, persistent_only: bool = False) -> Iterator[tuple[str, Tensor]]:
        for name, persistent in self._buffer_names.items():
            value = self.__dict__.get(name)
            if isinstance(value, Tensor) and (persistent or not persistent_only):
                yield name, value

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are direct attributes, with their names; each module once."""
        seen: set[int] = set()
        for name, value in self.__dict__.items():
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules that are direct attributes; each module once."""
        for _, module in self.named_children():
            yield module

    def named_modules(self, prefix: str = "", *, remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their names joined by dots, parents first.

        The module itself is named `prefix`. With `remove_duplicate` a module that is reached by two paths comes once.
        """
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if remove_duplicate:
                if id(module) in seen:
                    continue
                seen.add(id(module))
            yield path, module
            below = [(n, m) for n, m in module.__dict__.items() if isinstance(m, Module)]
            stack.extend((f"{path}.{name}" if path else name, child) for name, child in reversed(below))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, parents first; each module once."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The parameters with their names joined by dots; one that is shared comes once, under its first name.

        >>> from corten import nn
        >>> [name for name, _ in nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).named_parameters()]
        ['0.weight', '0.bias', '2.weight', '2.bias']
        """
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, value in module._own_parameters():
                if id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """The parameters, each once: what an optimizer is given."""
        for _, value in self.named_parameters(recurse=recurse):
            yield value

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their names joined by dots; one that is shared comes once."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, value in module._own_buffers():
                if id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        for _, value in self.named_buffers(recurse=recurse):
            yield value

    # -- state

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        """The cells behind the keys of `state_dict`: per module its parameters, then its buffers, then its children."""
        for path, module in self.named_modules(remove_duplicate=False):
            for name, value in (*module._own_parameters(), *module._own_buffers(persistent_only=True)):
                yield (f"{path}.{name}" if path else name), value

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and persistent buffers by name, under PyTorch's keys, without gradients.

        The tensors are a snapshot: later training steps do not change them. Taking it copies nothing by itself.

        >>> from corten import nn
        >>> list(nn.BatchNorm2d(3).state_dict())
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
        """
        return {name: value.detach() for name, value in self._state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Write the values of `state_dict` into the parameters and buffers of the same names.

        Either everything is written or, on an error, nothing. Values may be tensors or arrays; they are converted to
        the module's dtype and device.

        Args:
            state_dict: values by name, as from `state_dict` or `corten.io.load`.
            strict: raise if the module has keys that `state_dict` lacks, or the other way round.

        Returns:
            the missing and the unexpected keys (both empty if strict).

        Raises:
            ValueError: keys do not match (if strict) or shapes differ (always); the message lists every one of them.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"[load_state_dict] takes values by name, got {type(state_dict).__name__}")
        cells = dict(self._state())
        missing = [name for name in cells if name not in state_dict]
        unexpected = [name for name in state_dict if name not in cells]
        values = {name: asarray(state_dict[name]).detach() for name in cells if name in state_dict}
        problems: list[str] = []
        if strict and missing:
            problems.append(f"missing keys: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected keys: {', '.join(unexpected)}")
        problems += [
            f"{name}: the state has shape {value.shape}, the module {cells[name].shape}"
            for name, value in values.items()
            if value.shape != cells[name].shape
        ]
        if problems:
            lines = "\n  ".join(problems)
            raise ValueError(f"[load_state_dict] the state does not fit {type(self).__name__}:\n  {lines}")
        for name, value in values.items():
            cell = cells[name]
            cell.assign_(value.astype(cell.dtype).to(cell.device))
        return LoadResult(missing, unexpected)

    # -- changing all at once

    def train(self, mode: bool = True) -> Self:
        """Put this module and all below it into training mode (or, with False, evaluation mode).

        The mode matters to `Dropout` and `BatchNorm`. Returns the module itself.
        """
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and all below it into evaluation mode: `net.eval()` is `net.train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters be learnt, or with False freeze them. Returns the module itself."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or with `set_to_none=False` fill them with zeros."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else zeros_like(parameter.grad)

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call `fn` on every module below this one and on the module itself, children first. Returns the module.

        >>> import corten as ct
        >>> from corten import nn
        >>> def init(module):
        ...     if isinstance(module, nn.Linear):
        ...         nn.init.ones_(module.weight)
        >>> nn.Sequential(nn.Linear(2, 1)).apply(init)[0].weight.tolist()
        [[1.0, 1.0]]
        """
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, target: Any) -> Self:
        """Convert all floating parameters and buffers to a dtype, or move everything to a device.

        A parameter whose dtype and device already fit stays the same object; any other is replaced by a new one, so
        make the optimizer after calling `to`.

        Args:
            target: a floating dtype (`corten.float64`, `"float64"`) or the name of a device (`"cpu"`).

        Raises:
            TypeError: the dtype is not a floating one.

        >>> from corten import nn
        >>> nn.Linear(2, 1).to("float64").weight.dtype.name
        'float64'
        """
        is_dtype = _floating_dtype(target)
        moved: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # by id of the old tensor (kept alive), so that shared ones stay shared

        def move(value: Tensor) -> Tensor:
            if is_dtype and not value.dtype.is_floating_point:
                return value
            if id(value) not in moved:
                new = value.detach().to(target)
                if new.dtype == value.dtype and new.device == value.device:
                    new = value
                elif value.is_parameter:
                    new = Parameter(new, requires_grad=value.requires_grad)
                    new.grad = None if value.grad is None else value.grad.to(target)
                moved[id(value)] = (value, new)
            return moved[id(value)][1]

        for module in self.modules():
            for name, value in [*module._own_parameters(), *module._own_buffers()]:
                setattr(module, name, move(value))
        return self

    # -- reading

    def extra_repr(self) -> str:
        """What stands between the brackets of the module's repr; subclasses say what they were made with."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, child in ((n, m) for n, m in self.__dict__.items() if isinstance(m, Module)):
            lines.append(f"({name}): " + repr(child).replace("\n", "\n  "))
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = "\n  ".join(([extra] if extra else []) + lines)
        return f"{type(self).__name__}(\n  {body}\n)"
