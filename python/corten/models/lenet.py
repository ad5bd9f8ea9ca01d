"""LeNet-5."""

from __future__ import annotations

from typing import Any, Literal

from .. import nn
from ..functions import Tensor

__all__ = ["LeNet5"]


class LeNet5(nn.Module):
    """LeNet-5 in today's form: x (N, C, 28, 28) -> logits (N, num_classes).

    | layer | output |
    |---|---|
    | convolution 5 x 5, ReLU | (N, 6, 24, 24) |
    | max pooling 2 x 2 | (N, 6, 12, 12) |
    | convolution 5 x 5, ReLU | (N, 16, 8, 8) |
    | max pooling 2 x 2 | (N, 16, 4, 4) |
    | linear, ReLU | (N, 120) |
    | linear, ReLU | (N, 84) |
    | linear | (N, num_classes) |

    It has 44,426 parameters for ten classes and one channel. The softmax is part of `nn.CrossEntropyLoss`.

    Args:
        num_classes: size of the output.
        in_channels: C.
        activation: "relu" puts a ReLU after every hidden layer; "first" only after the first convolution, as
            introductory courses often draw it.
        dtype: of the parameters; float32 by default.

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 86(11), 1998. There the pooling is a learnt average, the activations are scaled tanh and the
    output is compared with prototypes.

    >>> import corten as ct
    >>> net = ct.models.LeNet5()
    >>> net(ct.zeros((2, 1, 28, 28))).shape, sum(p.size for p in net.parameters())
    ((2, 10), 44426)
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        activation: Literal["relu", "first"] = "relu",
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if activation not in ("relu", "first"):
            raise ValueError(f"[LeNet5] activation must be 'relu' or 'first', got {activation!r}")

        def hidden() -> list[nn.Module]:
            return [nn.ReLU()] if activation == "relu" else []

        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, dtype=dtype),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, dtype=dtype),
            *hidden(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 120, dtype=dtype),
            *hidden(),
            nn.Linear(120, 84, dtype=dtype),
            *hidden(),
            nn.Linear(84, num_classes, dtype=dtype),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, 28, 28) -> logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
