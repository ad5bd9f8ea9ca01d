"""Derivatives beyond `backward`: transforms of functions, operations of your own, checks, and help in trouble.

`vjp`, `jvp`, `jacobian`, `hessian`, `hvp` and `value_and_grad` differentiate functions; `Function` makes an operation
with a gradient of its own, and `gradcheck` and `gradgradcheck` test it; `detect_anomaly` names where a NaN was born,
`why_no_grad` says where a gradient was lost.
"""

from __future__ import annotations

from .anomaly import AnomalyError, detect_anomaly
from .check import gradcheck, gradgradcheck
from .explain import why_no_grad
from .function import Function, FunctionCtx, once_differentiable
from .transforms import hessian, hvp, jacobian, jvp, value_and_grad, vjp

__all__ = [
    "AnomalyError",
    "Function",
    "FunctionCtx",
    "detect_anomaly",
    "gradcheck",
    "gradgradcheck",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "once_differentiable",
    "value_and_grad",
    "vjp",
    "why_no_grad",
]
