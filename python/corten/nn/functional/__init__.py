"""The functions behind the modules, under PyTorch's names and in its order of arguments.

Axes are named in the docstrings: N batch, C channels, H height, W width; `*` is any number of axes. `axis` is accepted
wherever `dim` is.

>>> import corten as ct
>>> ct.nn.functional.relu(ct.tensor([-1.0, 2.0])).tolist()
[0.0, 2.0]
"""

from __future__ import annotations

from .activations import (
    celu,
    elu,
    gelu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softmin,
    softplus,
    softshrink,
    softsign,
    tanh,
    tanhshrink,
    threshold,
)
from .arrange import one_hot, pad, unfold
from .attention import attention_weights, scaled_dot_product_attention
from .common import Activation as Activation
from .common import Pair as Pair
from .common import Reduction as Reduction
from .distances import cosine_similarity, normalize, pairwise_distance
from .images import fold, interpolate, pixel_shuffle, pixel_unshuffle
from .layers import (
    adaptive_avg_pool2d,
    avg_pool2d,
    batch_norm,
    conv2d,
    dropout,
    dropout1d,
    dropout2d,
    flatten,
    linear,
    max_pool2d,
)
from .losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from .norms import group_norm, instance_norm, layer_norm, local_response_norm, rms_norm
from .pooling import adaptive_max_pool1d, adaptive_max_pool2d, lp_pool1d, lp_pool2d
from .recurrent import gru, lstm, rnn
from .sequences import adaptive_avg_pool1d, avg_pool1d, conv1d, embedding, max_pool1d
from .transposed import conv_transpose1d, conv_transpose2d

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "attention_weights",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "embedding",
    "flatten",
    "fold",
    "gelu",
    "glu",
    "group_norm",
    "gru",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "lp_pool1d",
    "lp_pool2d",
    "lstm",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "rnn",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "unfold",
]
