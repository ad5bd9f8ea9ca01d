"""Text from a language model, token by token; and long streams of text in pieces for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .. import checks
from ..functions import Tensor, concat, no_grad
from .sampling import sample

__all__ = ["generate", "stream"]

#: A model of sequences: tokens (N, T) and a state, or None at first, -> logits (N, T, V) and the next state.
Model = Callable[[Tensor, Any], tuple[Tensor, Any]]


def generate(
    model: Model,
    prompt: Tensor,
    length: int,
    *,
    choose: Callable[[Tensor], Tensor] = sample,
    state: Any = None,
    stop: int | None = None,
) -> Tensor:
    """Let a model with a state go on writing: the prompt is read at once, then each step is one token.

    Args:
        model: `model(tokens, state) -> (logits, state)`, tokens (N, T) int64, logits (N, T, V); a state of None is the
            beginning. A module in training mode is switched to evaluation for as long as this takes.
        prompt: (N, T) or (T,) int64 with at least one token.
        length: most tokens that are added.
        choose: logits (N, V) -> tokens (N,): `text.sample`, a `text.Sampler`, or
            `lambda logits: text.sample(logits, temperature=0)` for the most likely.
        state: what the model was left with before the prompt.
        stop: a token after which a sequence is over: it is repeated from there on, and when all sequences are over
            nothing more is added.

    Returns:
        (N, T + added) or (T + added,): the prompt and what was added.

    Raises:
        ValueError: the prompt is empty or has another number of axes.
        TypeError: an argument is of the wrong type.

    >>> import corten as ct
    >>> def count(tokens, state):  # a model that counts to 5
    ...     return ct.nn.functional.one_hot((tokens + 1) % 6, 6).astype("float32"), None
    >>> greedy = lambda logits: ct.text.sample(logits, temperature=0)
    >>> ct.text.generate(count, ct.tensor([0, 1]), 10, choose=greedy, stop=5).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    checks.is_tensor("[generate] prompt", prompt)
    checks.whole("[generate] length", length)
    if prompt.ndim not in (1, 2) or 0 in prompt.shape:
        raise ValueError(f"[generate] prompt must be (N, T) or (T,) with at least one token, got {prompt.shape}")
    single = prompt.ndim == 1
    tokens = prompt.reshape((1, -1)) if single else prompt
    was_training = bool(getattr(model, "training", False))
    if was_training:
        model.eval()  # type: ignore[attr-defined]  # a module, which has it
    parts = [tokens]
    over = tokens[:, -1] == stop if stop is not None else None
    try:
        with no_grad():
            for _ in range(length):
                if over is not None and bool(over.all().item()):
                    break
                logits, state = model(parts[-1], state)
                new = choose(logits[:, -1])
                if over is not None and stop is not None:
                    # Integers: new where a sequence runs, stop where it is over.
                    running = (~over).astype("int64")
                    new = new * running + stop * (1 - running)
                    over = new == stop
                parts.append(new.reshape((-1, 1)))
    finally:
        if was_training:
            model.train()  # type: ignore[attr-defined]
    written = concat(parts, axis=1)
    return written[0] if single else written


def stream(tokens: Tensor, batch: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A long text as batches for training with a state that is carried on: row i of a batch goes on where row i of the
    batch before ended.

    The text is cut into `batch` runs of equal length (the rest is left out), and these into pieces of `steps` tokens;
    the last piece may be shorter. Targets are the tokens one further.

    Args:
        tokens: (T,), the text.
        batch: rows.
        steps: tokens of a piece.

    Returns:
        inputs (batch, steps) and targets (batch, steps), piece after piece.

    Raises:
        ValueError: the text is too short for one piece of one step.

    >>> import corten as ct
    >>> for x, y in ct.text.stream(ct.arange(11), batch=2, steps=3):
    ...     print(x.tolist(), y.tolist())
    [[0, 1, 2], [5, 6, 7]] [[1, 2, 3], [6, 7, 8]]
    [[3, 4], [8, 9]] [[4, 5], [9, 10]]
    """
    checks.is_tensor("[stream] tokens", tokens)
    batch, steps = checks.whole("[stream] batch", batch, 1), checks.whole("[stream] steps", steps, 1)
    if tokens.ndim != 1 or tokens.size <= batch:
        raise ValueError(f"[stream] tokens must be (T,) with T > batch = {batch}, got {tokens.shape}")

    def pieces() -> Iterator[tuple[Tensor, Tensor]]:
        each = (tokens.size - 1) // batch
        x, y = (tokens[k : k + batch * each].reshape((batch, each)) for k in (0, 1))
        for start in range(0, each, steps):
            yield x[:, start : start + steps], y[:, start : start + steps]

    return pieces()
