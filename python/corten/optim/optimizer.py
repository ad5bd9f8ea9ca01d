"""Optimizer: what all optimizers share - parameter groups, state, saving and loading."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from operator import call, setitem
from typing import Any

from ..functions import Tensor, asarray, dtype, float32, set_grad_enabled, zeros_like

__all__ = ["Optimizer", "ParamsLike"]

# Tensors, groups, or the pairs of `named_parameters()`.
ParamsLike = Iterable[Tensor] | Iterable[Mapping[str, Any]] | Iterable[tuple[str, Tensor]]

# A part of a step: a compiled function with its arguments, as `functools.partial` makes them.
Update = Callable[[], object]


def set_all(states: Sequence[dict[str, Any]], key: str, value: object) -> Update:
    """`state[key] = value` for all states, without an instruction of Python's between them."""
    return partial(deque, map(setitem, states, repeat(key), repeat(value)), 0)


def state_like(p: Tensor) -> Tensor:
    """Zeros of the shape of a parameter, in the dtype of its state: a 16-bit parameter is stepped in float32."""
    return zeros_like(p, dtype=_state_dtype(p)).detach()


def _state_dtype(p: Tensor) -> dtype:
    return float32 if p.dtype.itemsize == 2 else p.dtype


def _are_items(value: object) -> bool:
    """Whether `value` can be gone through, and is no text."""
    return isinstance(value, Iterable) and not isinstance(value, str)


def _is_mapping(value: object, *keys: str) -> bool:
    """Whether `value` is a mapping that has these keys."""
    return isinstance(value, Mapping) and all(key in value for key in keys)


class Optimizer:
    """The base class of optimizers.

    `param_groups` is a list of dictionaries, each with its tensors under "params" and its own hyper-parameters, which
    may be changed between steps. `state` holds what the optimizer remembers of each parameter.

    Args:
        params: tensors, or dictionaries with "params" and hyper-parameters that differ from the defaults.
        defaults: hyper-parameters of every group that does not say otherwise.

    Raises:
        ValueError: there are no parameters, one is given twice, or a hyper-parameter is out of range.
        TypeError: something that is not a leaf tensor with a floating dtype is given.
    """

    _state_keys: frozenset[str] = frozenset()  # what the state of a parameter must hold

    def __init__(self, params: ParamsLike, defaults: Mapping[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                f"[{type(self).__name__}] params must be an iterable of tensors, got one tensor: put it in a list"
            )
        self.defaults = dict(defaults)
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        if not _are_items(params):
            raise TypeError(
                f"[{type(self).__name__}] params must be an iterable of tensors, as model.parameters() is, got "
                f"{type(params).__name__}"
            )
        items = list(params)
        if not items:
            raise ValueError(f"[{type(self).__name__}] got no parameters: an empty list, or an iterator used before")
        if isinstance(items[0], Mapping):
            for group in items:
                self.add_param_group(group)  # type: ignore[arg-type]  # add_param_group checks what it gets
        else:
            self.add_param_group({"params": items})

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with their own hyper-parameters: `{"params": tensors, "lr": 1e-4, ...}`."""
        name = type(self).__name__
        if not _is_mapping(group, "params"):
            raise TypeError(f"[{name}] a parameter group is a dictionary with the key 'params', got {group!r}")
        given = group["params"]
        if not _are_items(given):
            raise TypeError(f"[{name}] 'params' of a group must be tensors, got {type(given).__name__}")
        params = [given] if isinstance(given, Tensor) else [p[1] if isinstance(p, tuple) else p for p in given]
        unknown = set(group) - set(self.defaults) - {"params"}
        if unknown:
            raise ValueError(f"[{name}] unknown hyper-parameters: {', '.join(sorted(unknown))}")
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"[{name}] optimizes tensors, got {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(
                    f"[{name}] optimizes leaf tensors, got the result of an operation ({p.grad_fn}); use .detach()"
                )
            if not p.dtype.is_floating_point:
                raise TypeError(f"[{name}] optimizes floating tensors, got {p.dtype.name}")
            if id(p) in seen:
                raise ValueError(f"[{name}] a parameter of shape {p.shape} is given twice")
            seen.add(id(p))
        full = {**self.defaults, **group, "params": params}
        self._check(full)
        self.param_groups.append(full)

    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError with the rule if a hyper-parameter of the group is out of range."""
        raise NotImplementedError

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Update]:
        """What a step does to the parameters of one group, all of which have gradients, and to their state.

        All groups' updates are called one after the other, and Ctrl-C waits until the last is done: Python looks for
        signals between its own instructions, and compiled functions called by compiled functions have none.
        """
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or with `set_to_none=False` fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad = zeros_like(p.grad)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; the others stay as they are.

        Ctrl-C comes before a step or after it, never in its middle.

        Args:
            closure: computes the loss anew, with its gradients, and returns it; called once if given.

        Returns:
            what the closure returned.
        """
        loss = None
        if closure is not None:
            previous = set_grad_enabled(True)
            try:
                loss = closure()
            finally:
                set_grad_enabled(previous)
        updates: list[Update] = []
        for group in self.param_groups:
            self._check(group)  # a schedule may have written nonsense
            params: list[Tensor] = []
            grads: list[Tensor] = []
            for p in group["params"]:
                grad = p.grad
                if grad is not None:
                    params.append(p)
                    grads.append(grad)
            if params:
                updates += self._updates(group, params, grads)
        deque(map(call, updates), maxlen=0)
        return loss

    @staticmethod
    def _cohorts(tags: Sequence[Hashable], *lists: list[Any]) -> list[tuple[list[Any], ...]]:
        """Lists that run in parallel, split by `tags`: what goes into one fused call each.

        All parameters are usually of one cohort; those that were frozen for a while have another step count. Compiled
        steps sort by dtype themselves.
        """
        if tags.count(tags[0]) == len(tags):
            return [lists]
        cohorts: dict[Hashable, list[int]] = {}
        for i, tag in enumerate(tags):
            cohorts.setdefault(tag, []).append(i)
        return [tuple([values[i] for i in chosen] for values in lists) for chosen in cohorts.values()]

    def state_dict(self) -> dict[str, Any]:
        """A snapshot of state and hyper-parameters, in PyTorch's structure.

        `{"state": {i: {...}}, "param_groups": [{..., "params": [i, ...]}]}`, with parameters numbered in the order in
        which they were given.
        """
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                numbers[id(p)] = len(numbers)
            groups.append({**group, "params": [numbers[id(p)] for p in group["params"]]})
        state = {
            numbers[id(p)]: {k: v.detach() if isinstance(v, Tensor) else v for k, v in values.items()}
            for p, values in self.state.items()
        }
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the snapshot of an optimizer of the same kind over parameters of the same shapes.

        Raises:
            ValueError: the groups, their sizes or a shape do not fit; then nothing is changed.
        """
        name = type(self).__name__
        if not _is_mapping(state_dict, "state", "param_groups"):
            raise ValueError(
                f"[{name}.load_state_dict] expects what state_dict() gives: a mapping with 'state' and 'param_groups'"
            )
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"[{name}.load_state_dict] the state has {len(saved)} groups, the optimizer {len(self.param_groups)}"
            )
        groups, state = [], {}
        for i, (old, new) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(old["params"]) != len(new["params"]):
                raise ValueError(
                    f"[{name}.load_state_dict] group {i} has {len(new['params'])} parameters in the state, "
                    f"{len(old['params'])} in the optimizer"
                )
            known = {k: v for k, v in new.items() if k in self.defaults}
            group = {**old, **known, "params": old["params"]}
            self._check(group)
            groups.append(group)
            for p, number in zip(old["params"], new["params"], strict=True):
                if number in state_dict["state"]:
                    if lacking := sorted(self._state_keys - set(state_dict["state"][number])):
                        raise ValueError(
                            f"[{name}.load_state_dict] the state of parameter {number} lacks {', '.join(lacking)}"
                        )
                    state[p] = {k: self._load_value(p, k, v) for k, v in state_dict["state"][number].items()}
        self.param_groups, self.state = groups, state

    def _load_value(self, p: Tensor, key: str, value: Any) -> Any:
        """One value of a loaded state: a step count, or a tensor of the parameter's shape, in its state's dtype."""
        if key == "step":
            return int(value)  # PyTorch keeps it as a tensor
        if value is None or isinstance(value, bool | int | float | str):
            return value
        loaded = asarray(value).detach()
        if loaded.shape != p.shape:
            raise ValueError(
                f"[{type(self).__name__}.load_state_dict] {key} has shape {loaded.shape}, its parameter {p.shape}"
            )
        return loaded.astype(_state_dtype(p)).to(p.device)

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            lines.append(f"  group {i}: {len(group['params'])} parameters")
            lines += [f"    {k}: {v}" for k, v in group.items() if k != "params"]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + "\n)"
