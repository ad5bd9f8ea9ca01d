"""Why a tensor has no gradient, in words."""

from __future__ import annotations

from .. import _core
from ..functions import Tensor

__all__ = ["why_no_grad"]


def why_no_grad(x: Tensor, *leaves: Tensor) -> str:
    """Say why `x` has no gradient; or, with `leaves`, why each of them gets none from `x.backward()`.

    Args:
        x: a tensor whose `grad` is None, or, with leaves, the loss.
        leaves: tensors that `x` should depend on, such as parameters.

    Returns:
        a text, one line per leaf if there are any.

    >>> import corten as ct
    >>> w = ct.tensor([1.0, 3.0], requires_grad=True)
    >>> print(ct.why_no_grad(w.argmax() * 2))
    its dtype is int64: only float tensors have gradients; the graph ended at 'argmax', which has no gradient
    >>> print(ct.why_no_grad(w.detach() * 2))
    it does not require grad: detach() cut it off from the graph, or what it was computed from
    >>> v = ct.tensor(1.0, requires_grad=True)
    >>> print(ct.why_no_grad((v * w.detach()).sum(), v, w))  # doctest: +ELLIPSIS
    leaf 0: backward() will reach it
    leaf 1: the loss does not depend on it by any recorded path; on the way the graph ends: detach() before 'mul...
    """
    for name, t in (("x", x), *((f"leaf {i}", leaf) for i, leaf in enumerate(leaves))):
        if not isinstance(t, Tensor):
            raise TypeError(f"[why_no_grad] {name} must be a tensor, got {type(t).__name__}")
    if not leaves:
        return _alone(x)
    if not x.requires_grad:
        return f"the loss itself has no graph: {_alone(x)}"
    reached, cuts, freed = _core._survey(x, leaves)
    lines = [
        f"leaf {i}: {_of_leaf(leaf, there, cuts, freed)}"
        for i, (leaf, there) in enumerate(zip(leaves, reached, strict=True))
    ]
    return "\n".join(lines)


def _alone(x: Tensor) -> str:
    cut = _core._cut(x)
    if not x.dtype.is_floating_point:
        end = f"; the graph ended at {_where(cut)}" if cut else ""
        return f"its dtype is {x.dtype.name}: only float tensors have gradients{end}"
    if not x.requires_grad:
        if cut is None:
            return (
                "it does not require grad, and nothing that it was computed from does: call requires_grad_() on the "
                "leaf before computing with it (values that went through NumPy, item() or tolist() have left the "
                "graph, too)"
            )
        if cut == "detached":
            return "it does not require grad: detach() cut it off from the graph, or what it was computed from"
        kind, op = cut.split(" ", 1)
        if kind == "no_grad":
            return f"it does not require grad: {op!r} ran while recording was off (no_grad)"
        return f"it does not require grad: the graph ended at {op!r}, which has no gradient"
    if x.grad is not None:
        return "it has a gradient: x.grad is set"
    if not _core._keeps_grad(x):
        return (
            f"it is the result of {x.grad_fn!r}, and only leaves keep their gradient: call x.retain_grad() before "
            f"backward(), or use corten.grad(loss, x)"
        )
    return (
        "it requires grad, but no backward() has reached it: none was called since (or zero_grad() cleared it), or the "
        "loss does not depend on it; why_no_grad(loss, x) tells which"
    )


def _where(cut: str) -> str:
    if cut == "detached":
        return "detach()"
    kind, op = cut.split(" ", 1)
    return f"{op!r} under no_grad" if kind == "no_grad" else f"{op!r}, which has no gradient"


def _of_leaf(leaf: Tensor, reached: bool, cuts: list[tuple[str, str]], freed: str | None) -> str:
    if not leaf.requires_grad:
        return _alone(leaf)
    if reached and freed is not None:
        return (
            f"it is in the graph, but an earlier backward() has freed what {freed!r} saved: pass retain_graph=True to "
            f"that one, or compute the loss anew"
        )
    if reached and not _core._keeps_grad(leaf):
        made = f"it is the result of {leaf.grad_fn!r}"
        return f"backward() passes it, but {made}: only leaves keep their gradient (call retain_grad())"
    if reached:
        return "it has a gradient" if leaf.grad is not None else "backward() will reach it"
    text = "the loss does not depend on it by any recorded path"
    if cuts:
        ends = "; ".join(_where(cut) + ("," if "," in _where(cut) else "") + f" before {user!r}" for cut, user in cuts)
        return f"{text}; on the way the graph ends: {ends}"
    return f"{text}: it was not used, or another tensor was in its place (Module.to makes new parameters)"
