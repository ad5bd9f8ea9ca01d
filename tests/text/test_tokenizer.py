"""Tokenizers: there and back, special tokens, unknown characters, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import corten as ct
from corten.text import ByteTokenizer, CharTokenizer, load_tokenizer


@given(st.text())
def test_text_comes_back(text: str) -> None:
    for tokenizer in (CharTokenizer.from_text(text, specials=["<pad>"]), ByteTokenizer(["<pad>"])):
        numbers = tokenizer.encode(text)
        assert numbers.dtype == ct.int64
        assert numbers.ndim == 1
        assert tokenizer.decode(numbers) == text
        assert tokenizer.decode(numbers.tolist()) == text
        assert not bool((numbers == tokenizer.id("<pad>")).any().item()) if numbers.size else True


def test_numbers_of_characters() -> None:
    tokenizer = CharTokenizer("xab", specials=["<pad>", "<eos>"])
    assert len(tokenizer) == 5
    assert tokenizer.encode("abx").tolist() == [3, 4, 2]
    assert (tokenizer.id("<pad>"), tokenizer.id("<eos>")) == (0, 1)
    mixed = ct.tensor([2, 1, 3, 0, 0])
    assert tokenizer.decode(mixed) == "xa"
    assert tokenizer.decode(mixed, keep_specials=True) == "x<eos>a<pad><pad>"
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode("").shape == (0,)


def test_numbers_of_bytes() -> None:
    tokenizer = ByteTokenizer(["<eos>"])
    assert tokenizer.encode("€").tolist() == [0xE2, 0x82, 0xAC]
    assert tokenizer.decode([65, 0xE2, 256, 66]) == "A\ufffdB"  # half a character, which a model may write
    assert tokenizer.decode([65, 256, 66], keep_specials=True) == "A<eos>B"


def test_unknown_characters() -> None:
    with pytest.raises(ValueError, match=r"\[CharTokenizer.encode\] 'c' \(at 2\) is not in the vocabulary"):
        CharTokenizer("ab").encode("abc")
    with pytest.raises(ValueError, match="'€'"):
        CharTokenizer("ab").encode("€")
    assert CharTokenizer("ab", unknown="b").encode("ab€c").tolist() == [0, 1, 1, 1]
    tokenizer = CharTokenizer("ab", unknown="<unk>", specials=["<unk>"])
    assert tokenizer.encode("abc").tolist() == [1, 2, 0]
    assert tokenizer.decode(tokenizer.encode("abc")) == "ab"


@pytest.mark.parametrize(
    "tokenizer",
    [CharTokenizer("aé€😀\ud800", "<?>", ["<?>", "<pad>"]), CharTokenizer(""), ByteTokenizer(), ByteTokenizer(["<s>"])],
    ids=str,
)
def test_files(tokenizer: CharTokenizer | ByteTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    tokenizer.save(path)
    again = type(tokenizer).load(path)
    assert again == tokenizer
    assert hash(again) == hash(tokenizer)
    assert load_tokenizer(path) == tokenizer
    assert again != CharTokenizer("q")
    other = ByteTokenizer if isinstance(tokenizer, CharTokenizer) else CharTokenizer
    with pytest.raises(ValueError, match="holds a"):
        other.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        json.dumps({"format": "corten-tokenizer-1", "kind": "word"}).encode(),
        json.dumps({"format": "corten-tokenizer-1", "kind": "char"}).encode(),
        json.dumps(
            {"format": "corten-tokenizer-1", "kind": "char", "vocabulary": 3, "unknown": None, "specials": []}
        ).encode(),
        json.dumps({"format": "corten-tokenizer-1", "kind": "byte", "specials": [1]}).encode(),
    ],
)
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\[load_tokenizer\] .*vocabulary.json is damaged or no tokenizer"):
        load_tokenizer(path)
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path / "none.json")


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="'a' comes twice"):
        CharTokenizer("aba")
    with pytest.raises(ValueError, match="single characters, got 'bc'"):
        CharTokenizer(["a", "bc"])
    with pytest.raises(ValueError, match="must not be in the vocabulary, but 'a' is"):
        CharTokenizer("ab", specials=["a"])
    with pytest.raises(ValueError, match="unknown must be in the vocabulary"):
        CharTokenizer("ab", unknown="c")
    with pytest.raises(TypeError, match="specials must be a sequence of strings"):
        ByteTokenizer("<pad>")
    with pytest.raises(TypeError, match="text must be a string"):
        ByteTokenizer().encode(3)  # type: ignore[arg-type]
    tokenizer = CharTokenizer("ab", specials=["<pad>"])
    with pytest.raises(ValueError, match="no special token '<eos>' \\(there is: '<pad>'\\)"):
        tokenizer.id("<eos>")
    for bad in ([3], [-1], ct.tensor([0, 5])):
        with pytest.raises(IndexError, match="numbers must be from 0 to 2"):
            tokenizer.decode(bad)
    with pytest.raises(ValueError, match=r"one axis, got shape \(1, 2\)"):
        tokenizer.decode(ct.tensor([[0, 1]]))
    with pytest.raises(TypeError, match="integers"):
        tokenizer.decode(ct.tensor([0.0]))
    with pytest.raises(TypeError, match=r"numbers\[1\] must be an int"):
        tokenizer.decode([0, 1.5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="must be a tensor or ints"):
        tokenizer.decode(3)  # type: ignore[arg-type]
    assert tokenizer.decode(np.array([1, 2], np.uint8)) == "ab"
