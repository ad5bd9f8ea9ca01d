"""einops takes our tensors, whichever of the two was imported first; the examples are those of its documentation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import corten as ct

einops = pytest.importorskip("einops")
X = np.arange(2 * 4 * 6 * 3, dtype=np.float64).reshape(2, 4, 6, 3)  # b h w c

REARRANGE = [
    ("b h w c -> b c h w", {}),
    ("b h w c -> (b h) w c", {}),
    ("b h w c -> h (b w) c", {}),
    ("b h w c -> b (h w c)", {}),
    ("b (h h1) (w w1) c -> (b h1 w1) h w c", {"h1": 2, "w1": 3}),
    ("(b1 b2) h w c -> (b1 h) (b2 w) c", {"b1": 2}),
    ("b ... c -> b c ...", {}),
    ("b h w c -> b 1 h w 1 c", {}),
]
REDUCE = [
    ("b h w c -> h w c", {}),
    ("b h w c -> h w", {}),
    ("b (h h2) (w w2) c -> h (b w) c", {"h2": 2, "w2": 2}),
    ("b h w c -> b () () c", {}),
    ("b h w c ->", {}),
]
REPEAT = [
    ("b h w c -> b h (w w2) c", {"w2": 3}),
    ("b h w c -> (b k) h w c", {"k": 2}),
    ("b h w c -> b h w c k l", {"k": 2, "l": 1}),
]


@pytest.mark.parametrize(("pattern", "sizes"), REARRANGE)
def test_rearrange(pattern: str, sizes: dict[str, int]) -> None:
    got = einops.rearrange(ct.tensor(X), pattern, **sizes)
    assert isinstance(got, ct.Tensor)
    np.testing.assert_array_equal(got.numpy(), einops.rearrange(X, pattern, **sizes), strict=True)


@pytest.mark.parametrize("operation", ["min", "max", "sum", "mean", "prod", "any", "all"])
@pytest.mark.parametrize(("pattern", "sizes"), REDUCE)
def test_reduce(pattern: str, sizes: dict[str, int], operation: str) -> None:
    x = X > 30 if operation in ("any", "all") else X / 40
    got = einops.reduce(ct.tensor(x), pattern, operation, **sizes)
    # Up to 144 additions or multiplications, each rounded to 2^-53.
    np.testing.assert_allclose(got.numpy(), einops.reduce(x, pattern, operation, **sizes), rtol=144 * 2**-53)


@pytest.mark.parametrize(("pattern", "sizes"), REPEAT)
def test_repeat(pattern: str, sizes: dict[str, int]) -> None:
    got = einops.repeat(ct.tensor(X), pattern, **sizes)
    np.testing.assert_array_equal(got.numpy(), einops.repeat(X, pattern, **sizes), strict=True)


def test_the_other_functions() -> None:
    t = ct.tensor(X)
    assert einops.parse_shape(t, "b h w _") == {"b": 2, "h": 4, "w": 6}
    np.testing.assert_array_equal(einops.einsum(t, t, "b h w c, b h w c -> b").numpy(), (X * X).sum((1, 2, 3)))
    np.testing.assert_array_equal(einops.asnumpy(t.requires_grad_()), X)
    packed, shapes = einops.pack([ct.ones((2, 3)), ct.zeros((2, 4, 5))], "b *")
    assert packed.shape == (2, 23)
    assert [a.shape for a in einops.unpack(packed, shapes, "b *")] == [(2, 3), (2, 4, 5)]
    np.testing.assert_array_equal(
        einops.rearrange([ct.tensor(x) for x in X], "b h w c -> (b h) w c").numpy(), X.reshape(8, 6, 3)
    )
    total = einops.reduce(t, "b h w c -> c", lambda x, axes: x.sum(axis=axes))
    np.testing.assert_array_equal(total.detach().numpy(), X.sum((0, 1, 2)))


def test_mean_of_integers_is_refused_by_einops() -> None:
    with pytest.raises(NotImplementedError, match="not available for non-floating"):
        einops.reduce(ct.ones((2, 2), dtype="int64"), "a b -> a", "mean")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: einops.rearrange(x, "(a b) c -> b (c a)", a=2),
        lambda x: einops.reduce(x, "a b -> b", "mean"),
        lambda x: einops.reduce(x, "a b -> a", "max"),
        lambda x: einops.reduce(x, "a b ->", "prod"),
        lambda x: einops.repeat(x, "a b -> a b c", c=3),
        lambda x: einops.einsum(x, x, "a b, c b -> a c"),
    ],
)
def test_gradients_flow(function) -> None:
    x = ct.tensor(np.random.default_rng(0).uniform(0.5, 1.5, (4, 3)), requires_grad=True)
    assert ct.testing.gradcheck(function, (x,))


IN_PROCESS = """
{first}
{second}
from einops import rearrange
print(rearrange(ct.ones((2, 3)), "a b -> b a").shape)
import sys, importlib.machinery as m
assert type(sys.modules["einops._backends"].__spec__.loader) is m.SourceFileLoader
assert type(sys.modules["einops._backends"].__loader__) is m.SourceFileLoader
"""


@pytest.mark.parametrize("order", ["corten first", "einops first"])
def test_whichever_is_imported_first(order: str) -> None:
    imports = ["import corten as ct", "import einops"]
    first, second = imports if order == "corten first" else reversed(imports)
    script = IN_PROCESS.format(first=first, second=second)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("(3, 2)", "")


def test_corten_does_not_import_einops() -> None:
    script = (
        "import sys, corten; assert not [m for m in sys.modules if m.startswith('einops')]; print(len(sys.meta_path))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_without_einops_imports_fail_as_ever() -> None:
    script = (
        "import sys, corten\n"
        "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        "try: import einops\n"
        "except ModuleNotFoundError as e: print(e.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "einops"
