"""Tokenizers: text to numbers and back, by characters or by bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from .. import checks
from ..functions import Tensor, tensor
from ..io.atomic import atomic_write

__all__ = ["ByteTokenizer", "CharTokenizer", "Tokenizer", "load_tokenizer"]

_FORMAT = "corten-tokenizer-1"


def _strings(rule: str, values: Iterable[str]) -> tuple[str, ...]:
    """`values` as a tuple of different non-empty strings."""
    try:
        found = tuple(values)
    except TypeError:
        raise TypeError(f"{rule} must be strings, got {values!r}") from None
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{rule} must be strings, got {value!r}")
        if not value:
            raise ValueError(f"{rule} must not be empty strings")
    if len(set(found)) != len(found):
        twice = next(v for i, v in enumerate(found) if v in found[:i])
        raise ValueError(f"{rule} must be different, but {twice!r} comes twice")
    return found


class Tokenizer:
    """What tokenizers share: special tokens, decoding, files. Subclasses say how text becomes numbers.

    Special tokens stand for no text ("<pad>", "<eos>"): `encode` never makes them, `decode` leaves them out.
    """

    kind = ""

    def __init__(self, pieces: Sequence[str], specials: Iterable[str]) -> None:
        name = f"[{type(self).__name__}]"
        if isinstance(specials, str):
            raise TypeError(f"{name} specials must be a sequence of strings, got the string {specials!r}")
        self.specials = _strings(f"{name} specials", specials)
        clash = [s for s in self.specials if s in set(pieces)]
        if clash:
            raise ValueError(f"{name} specials must not be in the vocabulary, but {clash[0]!r} is")

    @property
    def first_special(self) -> int:
        """Number of the first special token; the others follow."""
        raise NotImplementedError(f"[{type(self).__name__}] has no first_special")

    def encode(self, text: str) -> Tensor:
        """Text as numbers: int64 (length,)."""
        raise NotImplementedError(f"[{type(self).__name__}] has no encode(self, text)")

    def _text(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> str:
        raise NotImplementedError(f"[{type(self).__name__}] has no _text(self, numbers)")

    def __len__(self) -> int:
        raise NotImplementedError(f"[{type(self).__name__}] has no __len__(self)")

    def _state(self) -> dict[str, Any]:
        raise NotImplementedError(f"[{type(self).__name__}] has no _state(self)")

    def id(self, token: str) -> int:
        """Number of a special token.

        Raises:
            ValueError: there is none of this name.
        """
        if token not in self.specials:
            have = ", ".join(map(repr, self.specials)) or "none"
            raise ValueError(f"[{type(self).__name__}.id] there is no special token {token!r} (there is: {have})")
        return self.first_special + self.specials.index(token)

    def decode(self, numbers: Tensor | Iterable[int], keep_specials: bool = False) -> str:
        """Numbers of one text as text.

        Args:
            numbers: a tensor of integers with one axis, or ints.
            keep_specials: show special tokens by their names instead of leaving them out.

        Raises:
            IndexError: a number is none of the vocabulary's.
            TypeError, ValueError: `numbers` are not integers with one axis.
        """
        rule = f"[{type(self).__name__}.decode]"
        given = numbers.numpy() if isinstance(numbers, Tensor) else numbers
        if not isinstance(given, np.ndarray):
            try:
                given = np.array([checks.whole(f"{rule} numbers[{i}]", n, -(2**62)) for i, n in enumerate(given)])
            except TypeError as error:
                if str(error).startswith("["):
                    raise
                raise TypeError(f"{rule} numbers must be a tensor or ints, got {numbers!r}") from None
        if given.ndim != 1:
            raise ValueError(f"{rule} numbers must have one axis, got shape {given.shape} (decode row by row)")
        if given.size and given.dtype.kind not in "iu":
            raise TypeError(f"{rule} numbers must be integers, got {given.dtype}")
        array = given.astype(np.int64)
        bad = array[(array < 0) | (array >= len(self))]
        if bad.size:
            raise IndexError(f"{rule} numbers must be from 0 to {len(self) - 1}, got {bad[0]}")
        first = self.first_special
        special = (array >= first) & (array < first + len(self.specials))
        if not keep_specials:
            return self._text(array[~special])
        parts, start = [], 0
        for place in np.flatnonzero(special):
            parts += [self._text(array[start:place]), self.specials[array[place] - first]]
            start = int(place) + 1
        return "".join([*parts, self._text(array[start:])])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to a JSON file, which `load` reads."""
        target = Path(os.fsdecode(checks.path(f"[{type(self).__name__}.save] path", path)))
        state = {"format": _FORMAT, "kind": self.kind, **self._state()}
        with atomic_write(target) as file:
            file.write(json.dumps(state, ensure_ascii=True).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The tokenizer that `save` wrote.

        Raises:
            ValueError: the file is damaged or holds another kind of tokenizer.
            OSError: it cannot be read.
        """
        found = load_tokenizer(path)
        if not isinstance(found, cls):
            raise ValueError(f"[{cls.__name__}.load] {os.fspath(path)} holds a {type(found).__name__}")
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.kind == other.kind and self._state() == other._state()

    def __hash__(self) -> int:
        return hash(json.dumps(self._state()))


class CharTokenizer(Tokenizer):
    """One number per character of a vocabulary.

    Args:
        vocabulary: the characters, in the order of their numbers.
        unknown: what characters that are not in the vocabulary become: a character of it, or one of `specials`. With
            None they raise.
        specials: tokens that stand for no text, such as "<pad>" or "<eos>"; their numbers come first.

    Raises:
        ValueError: a character comes twice, or `unknown` is neither in the vocabulary nor special.
        TypeError: an argument is of the wrong type.

    >>> from corten.text import CharTokenizer
    >>> tokenizer = CharTokenizer.from_text("hello world")
    >>> len(tokenizer), tokenizer.vocabulary
    (8, ' dehlorw')
    >>> tokenizer.encode("hello").tolist()
    [3, 2, 4, 4, 5]
    >>> tokenizer.decode([7, 5, 6, 4, 1])
    'world'
    """

    kind = "char"

    def __init__(self, vocabulary: Iterable[str], unknown: str | None = None, specials: Iterable[str] = ()) -> None:
        characters = _strings("[CharTokenizer] vocabulary", vocabulary)
        for character in characters:
            if len(character) != 1:
                raise ValueError(f"[CharTokenizer] vocabulary must be single characters, got {character!r}")
        super().__init__(characters, specials)
        self.vocabulary = "".join(characters)
        if unknown is not None and not isinstance(unknown, str):
            raise TypeError(f"[CharTokenizer] unknown must be a string or None, got {unknown!r}")
        self.unknown = unknown
        first = len(self.specials)
        self._number = {c: first + i for i, c in enumerate(characters)}
        known = {**self._number, **{s: i for i, s in enumerate(self.specials)}}
        if unknown is not None and unknown not in known:
            raise ValueError(f"[CharTokenizer] unknown must be in the vocabulary or in specials, got {unknown!r}")
        self._unknown = -1 if unknown is None else known[unknown]
        # By code point, so that a book is encoded without a Python loop.
        points = np.array([ord(c) for c in characters], np.int64)
        self._table = np.full(int(points.max(initial=-1)) + 1, self._unknown, np.int64)
        self._table[points] = np.arange(first, first + len(points))
        self._points = points.astype(np.uint32)

    @classmethod
    def from_text(cls, text: str, unknown: str | None = None, specials: Iterable[str] = ()) -> CharTokenizer:
        """A tokenizer of all characters of a text, in the order of their code points."""
        if not isinstance(text, str):
            raise TypeError(f"[CharTokenizer.from_text] text must be a string, got {text!r}")
        return cls(sorted(set(text)), unknown, specials)

    @property
    def first_special(self) -> int:
        return 0

    def __len__(self) -> int:
        return len(self.vocabulary) + len(self.specials)

    def encode(self, text: str) -> Tensor:
        """Text as numbers: int64 (length,).

        Raises:
            ValueError: a character is not in the vocabulary, and `unknown` is None.
        """
        if not isinstance(text, str):
            raise TypeError(f"[CharTokenizer.encode] text must be a string, got {text!r}")
        # surrogatepass: half a pair, which a broken file may hold, is a character like any other.
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
        inside = points < len(self._table)
        numbers = np.full(points.shape, self._unknown, np.int64)
        numbers[inside] = self._table[points[inside]]
        if self.unknown is None and (numbers < 0).any():
            at = int(np.flatnonzero(numbers < 0)[0])
            raise ValueError(
                f"[CharTokenizer.encode] {text[at]!r} (at {at}) is not in the vocabulary of {len(self.vocabulary)} "
                "characters (give unknown= something that it becomes)"
            )
        return tensor(numbers)

    def _text(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> str:
        points: np.ndarray[Any, np.dtype[np.uint32]] = self._points[numbers - len(self.specials)]
        return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def _state(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "unknown": self.unknown, "specials": list(self.specials)}

    def __repr__(self) -> str:
        return f"CharTokenizer({len(self.vocabulary)} characters, unknown={self.unknown!r}, specials={self.specials})"


class ByteTokenizer(Tokenizer):
    """The bytes of UTF-8, 0 to 255: any text can be encoded. Special tokens follow, from 256.

    >>> from corten.text import ByteTokenizer
    >>> tokenizer = ByteTokenizer(specials=["<eos>"])
    >>> tokenizer.encode("né").tolist(), tokenizer.id("<eos>"), len(tokenizer)
    ([110, 195, 169], 256, 257)
    >>> tokenizer.decode([110, 195, 169, 256])
    'né'
    """

    kind = "byte"

    def __init__(self, specials: Iterable[str] = ()) -> None:
        super().__init__((), specials)

    @property
    def first_special(self) -> int:
        return 256

    def __len__(self) -> int:
        return 256 + len(self.specials)

    def encode(self, text: str) -> Tensor:
        """The bytes of a text's UTF-8: int64 (bytes,)."""
        if not isinstance(text, str):
            raise TypeError(f"[ByteTokenizer.encode] text must be a string, got {text!r}")
        return tensor(np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64))

    def _text(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> str:
        # A model may well write what is no UTF-8.
        return numbers.astype(np.uint8).tobytes().decode("utf-8", "replace")

    def _state(self) -> dict[str, Any]:
        return {"specials": list(self.specials)}

    def __repr__(self) -> str:
        return f"ByteTokenizer(specials={self.specials})"


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer, of whatever kind, that `save` wrote.

    Raises:
        ValueError: the file is damaged or no tokenizer's.
        OSError: it cannot be read.
    """
    place = checks.path("[load_tokenizer] path", path)
    try:
        with open(place, "rb") as file:
            state = json.loads(file.read())
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise ValueError(f"it lacks the mark {_FORMAT!r}")
        kind = state.get("kind")
        if kind == "char":
            return CharTokenizer(state["vocabulary"], state["unknown"], state["specials"])
        if kind == "byte":
            return ByteTokenizer(state["specials"])
        raise ValueError(f"unknown kind {kind!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"[load_tokenizer] {os.fsdecode(place)} is damaged or no tokenizer: {error}") from None
