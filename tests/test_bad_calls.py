"""Whatever a public function is called with, it computes the right thing or says clearly what was wrong.

Thousands of calls with hostile arguments (`bad_calls.py`), and some seventy wrong calls with their full messages
(`golden/messages.py`), which are read as a user would read them whenever they change.
"""

from __future__ import annotations

import os
import re
from pathlib import Path as File
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bad_calls
import corten as ct
from bad_calls import EVERYTHING, LEFT_OUT, Call, Odd, like
from corten import _core, nn
from corten.nn import functional as F
from golden import messages
from harness import listed, to_numpy
from op_table import rows

CALLS = bad_calls.calls()
NAMES = sorted(CALLS)
ROWS = rows()
Tensor = _core.Tensor

#: What a wrong call may raise. OSError is of the file's making: it names the file and has its own text.
TYPED = (ValueError, TypeError, IndexError, NotImplementedError, RuntimeError, MemoryError, OverflowError, OSError)
#: Python's own words for too few, too many or unknown arguments; they name the function.
PYTHONS = re.compile(r"^(wrapper )?[\w.<>]+\(\) (missing|takes|got|argument)|^ ?expected \d+ argument")
#: A number, a name, a kind of thing: something about what came.
SAID = re.compile(r"\d|nan|inf|zero|empty|None|'|\(\)|\b(not|got) \S|grad|dtype|axis|num_classes", re.IGNORECASE)
DTYPES = {"float16", "bfloat16", "float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"}


def show(call: Call, args: list[Any], kwargs: dict[str, Any], odd: dict[Any, Odd]) -> str:
    def word(key: Any, value: Any) -> str:
        if key in odd:
            return odd[key].text
        return f"<{value.dtype} {value.shape}>" if isinstance(value, Tensor) else repr(value)

    words = [word(i, a) for i, a in enumerate(args)] + [f"{k}={word(k, v)}" for k, v in kwargs.items()]
    return f"{call.name}({', '.join(words)})  # from {call.label or 'a valid call'}"


def check_text(error: BaseException, args: list[Any], kwargs: dict[str, Any], shown: str) -> None:
    """The message names the operation in brackets and something of the arguments."""
    text = str(error)
    if isinstance(error, OSError) or PYTHONS.match(text):
        return
    assert re.match(r"\[[\w. ]+\] \S", text), f"{shown}\nraised {error!r}: no operation in brackets"
    rest = text.split("] ", 1)[1]
    assert len(rest) >= 12, f"{shown}\nraised {error!r}: too short to help"


def check_result(call: Call, args: list[Any], kwargs: dict[str, Any], result: Any, shown: str) -> None:
    """Tensors that can be read; equal to the row's formula where that has an opinion."""
    tensors = [
        t for t in (listed(result) if isinstance(result, (list, tuple, Tensor)) else []) if isinstance(t, Tensor)
    ]
    for t in tensors:
        assert t.dtype.name in DTYPES, shown
        if t.size >= 10**8:  # only a view that repeats its elements
            assert 0 in t.strides, shown
            return
        assert to_numpy(t).shape == t.shape, shown
    if call.row is None or not tensors:
        return
    row = ROWS[call.row]

    def array(value: Any) -> Any:
        if isinstance(value, Tensor):
            a = to_numpy(value)
            if a.dtype.kind == "i" and a.size and not (int(a.min()) > -(2**53) and int(a.max()) < 2**53):
                raise OverflowError("NumPy's integers wrap around, where formulas have floats in mind")
            return a.astype("float64") if a.dtype.kind == "f" else np.array(a)
        if isinstance(value, float) and 0 < abs(value) < 1e-300:
            raise OverflowError("zero beside a tensor of float32, where formulas reckon in float64")
        return type(value)(array(v) for v in value) if isinstance(value, (list, tuple)) else value

    try:
        with np.errstate(all="ignore"):
            wanted = row.numpy(*[array(a) for a in args], **{k: array(v) for k, v in kwargs.items()})
        wanted = [np.asarray(w) for w in (wanted if isinstance(wanted, list) else [wanted])]
    except Exception:  # the formula covers what the samples need, not every spelling of every argument
        return
    if len(wanted) != len(tensors):
        return
    for t, w in zip(tensors, wanted, strict=True):
        if w.dtype.kind not in "fiub" or row.name in NO_FORMULA:
            continue
        assert t.shape == w.shape, f"{shown}\ngave shape {t.shape}, NumPy {w.shape}"
        with np.errstate(all="ignore"):
            got = to_numpy(t).astype("float64")
            w = w.astype(to_numpy(t).dtype).astype("float64") if t.dtype.is_floating_point else w.astype("float64")
        # Wide: the values may be far from those that the row's tolerance speaks of. A wrong formula is off by more.
        np.testing.assert_allclose(got, w, rtol=1e-3, atol=1e-3, err_msg=shown)


#: Rows whose formula holds for their samples only: it keeps something that the call changes, or leaves out a case.
#: By an infinity, Python's `//` and `%` give -1 and the infinity where rounding the quotient gives -0 and NaN.
NO_FORMULA = {"floor_divide", "remainder"}


def attempt(call: Call, args: list[Any], kwargs: dict[str, Any], odd: dict[Any, Odd]) -> None:
    shown = show(call, args, kwargs, odd)
    # The formula must see the values as they were: running statistics change under the call.
    before = [a.clone() if isinstance(a, Tensor) and a.is_leaf and not a.requires_grad else a for a in args]
    try:
        result = call.fn(*args, **kwargs)
    except _core.InternalError as error:
        raise AssertionError(f"{shown}\na bug of corten: {error}") from error
    except TYPED as error:
        check_text(error, args, kwargs, shown)
    except BaseException as error:
        raise AssertionError(f"{shown}\nraised {error!r}") from error
    else:
        check_result(call, before, kwargs, result, shown)


@st.composite
def wrong(draw: st.DrawFn) -> tuple[Call, list[Any], dict[str, Any], dict[Any, Odd]]:
    """A valid call with one or two arguments replaced; rarely one too few or too many."""
    call = draw(st.sampled_from(CALLS[draw(st.sampled_from(NAMES))]))
    args, kwargs = call.make()
    odd: dict[Any, Odd] = {}
    keys: list[Any] = [*range(len(args)), *kwargs]
    for key in draw(st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique=True)) if keys else []:
        holder: Any = args if isinstance(key, int) else kwargs
        same_kind = draw(st.integers(0, 3)) or (key == 0 and call.receiver)
        pool = like(holder[key]) if same_kind else EVERYTHING
        odd[key] = draw(st.sampled_from(pool))
        holder[key] = odd[key].make()
    shape = draw(st.integers(0, 15))
    if shape == 0 and len(args) > call.receiver:
        args.pop()
    elif shape == 1:
        odd[len(args)] = draw(st.sampled_from(EVERYTHING))
        args.append(odd[len(args)].make())
    elif shape == 2:
        kwargs["no_such_argument"] = 1
    return call, args, kwargs, odd


def hostile(examples: int) -> Any:
    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(wrong())
    def run(drawn: tuple[Call, list[Any], dict[str, Any], dict[Any, Odd]]) -> None:
        attempt(*drawn)

    return run


@pytest.fixture
def quiet_state(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a call happens to write land in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("quiet_state")
@pytest.mark.filterwarnings("ignore")
def test_a_thousand_wrong_calls() -> None:
    hostile(1000)()


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_state")
@pytest.mark.filterwarnings("ignore")
def test_five_thousand_wrong_calls() -> None:
    hostile(5000)()


@pytest.mark.usefixtures("quiet_state")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_the_calls_work_before_they_are_spoiled(name: str) -> None:
    """Else the generator would test nothing but the first check of each function."""
    call = CALLS[name][0]
    args, kwargs = call.make()
    call.fn(*args, **kwargs)


def test_every_public_function_is_called() -> None:
    public = {
        n for n in ct.functions.__all__ if callable(getattr(ct, n)) and not isinstance(getattr(ct, n), _core.dtype)
    }
    public |= set(_core.op_names()) | {f"F.{n}" for n in F.__all__} | set(ct.data.__all__) | set(ct.io.__all__)
    public |= {
        f"nn.{n}" for n in nn.__all__ if isinstance(getattr(nn, n), type) and issubclass(getattr(nn, n), nn.Module)
    }
    public |= {n for n in ct.optim.__all__ if n != "Optimizer"} | {f"init.{n}" for n in nn.init.__all__}
    public |= {f"Tensor.{n}" for n in dir(Tensor) if not n.startswith("_") and callable(getattr(Tensor, n))}
    bases = {"Dataset", "Sampler", "nn.Module", "nn.Sequential", "nn.ModuleList", "nn.ModuleDict"}
    missing = public - set(CALLS) - LEFT_OUT.keys() - bases
    assert not missing, f"add valid calls to tests/bad_calls.py: {sorted(missing)}"


# -- the words themselves

MESSAGES = File(__file__).parent / "golden" / "messages.txt"


def test_the_messages_are_word_for_word() -> None:
    """`CORTEN_UPDATE_GOLDEN=1` writes the file anew; the difference is to be read as a user would read it."""
    written = messages.messages()
    if os.environ.get("CORTEN_UPDATE_GOLDEN"):
        MESSAGES.write_text(written, encoding="utf-8")
    assert written == MESSAGES.read_text(encoding="utf-8")
    assert len(messages.CALLS) >= 60
    assert "no error" not in written


def test_the_messages_are_in_the_house_style() -> None:
    """Each names an operation in brackets; only Python's own operators speak in Python's words."""
    for block in MESSAGES.read_text(encoding="utf-8").split("\n\n"):
        code, text = block.strip().split("\n", 1)
        assert re.match(r"\s*\w+: (\[\w+\] |\[operator .{1,2}\] |unsupported operand)", text), f"{code}: {text}"
