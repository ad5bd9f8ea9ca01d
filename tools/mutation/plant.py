"""Plants mutants in the gradient rules of a copy of the sources: one build then holds them all, each behind a number.

A mutant flips the sign of one intermediate result of a rule, drops one term of a sum, or turns one sum of a kernel into
a difference. Only code that computes gradients is touched: closures and functions in `rust/core/src/ops/` that take a
gradient `g`, the `*_backward`, `*_dx` and `*_dw` methods of the backend, and the `Backward` and `Grad` kernels.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Operations whose result's sign is flipped where a rule calls them.
FLIPPED = (
    "multiply|divide|matmul|sum_to|sum|mean|cos|sin|exp|square|pow|pow_scalar|sign|expand|unslice|scatter_rows|"
    "gather_rows|slice_spans|reshape_to|permute_dims|negative|sigmoid|tanh|matrix_mt|cumulative|flip|row_gradient"
)
#: Kernel arithmetic and what it becomes: a sum turns into a difference, a product gets the other sign.
VECTOR = {"add": "sub", "sub": "add", "fma": "fnma", "fnma": "fma", "mul": "neg_mul"}


@dataclass(frozen=True)
class Mutant:
    number: int
    file: str
    line: int
    kind: str
    text: str


def close(text: str, start: int) -> int:
    """Index just behind the bracket that closes the one at `start`; strings and comments do not occur in rules."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    stack = []
    for i in range(start, len(text)):
        c = text[i]
        if c in pairs:
            stack.append(pairs[c])
        elif stack and c == stack[-1]:
            stack.pop()
            if not stack:
                return i + 1
    raise ValueError("unbalanced brackets")


def body(text: str, start: int) -> int:
    """End of the closure body that starts at `start`: a block, or an expression up to a `,`, `;` or closing bracket."""
    while text[start].isspace():
        start += 1
    if text[start] == "{":
        return close(text, start)
    depth = 0
    for i in range(start, len(text)):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            if depth == 0:
                return i
            depth -= 1
        elif text[i] in ",;" and depth == 0:
            return i
    return len(text)


def blank(text: str) -> str:
    """`text` with comments and strings blanked out, of the same length; ends where the unit tests begin."""
    text = re.sub(r'//[^\n]*|"(?:\\.|[^"\\])*"', lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)
    tests = re.search(r"#\[cfg\(test\)\]", text)
    return text[: tests.start()] if tests else text


def merged(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans without overlaps, in order."""
    result: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if result and begin < result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((begin, end))
    return result


def rules(text: str) -> Iterator[tuple[int, int]]:
    """Where an operation's file computes gradients: closures and functions that take `g` (or several, `grads`)."""
    for match in re.finditer(r"\|[^|\n]*\b(?:g|grads)\b[^|\n]*\|", text):
        yield match.end(), body(text, match.end())
    for match in re.finditer(r"\bfn \w+\s*(?:<[^>]*>)?\(([^)]*)\)[^{;]*\{", text):
        if re.search(r"\bg: &Tensor", match.group(1)):
            yield match.end() - 1, close(text, match.end() - 1)


def backend_rules(text: str) -> Iterator[tuple[int, int]]:
    for match in re.finditer(r"\bfn (?:\w+_(?:backward|dx|dw)|scatter_add_rows)\([^{;]*\{", text):
        yield match.end() - 1, close(text, match.end() - 1)


def kernel_rules(text: str) -> Iterator[tuple[int, int]]:
    for match in re.finditer(r"\bimpl[^{;]*\b(?:Backward|Grad|\w+Backward)\b[^{;]*\{", text):
        yield match.end() - 1, close(text, match.end() - 1)
    for match in re.finditer(r"\bfn \w*(?:_backward|_grad)\b[^{;]*\{", text):
        yield match.end() - 1, close(text, match.end() - 1)


class Planter:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.mutants: list[Mutant] = []

    def file(self, path: Path) -> None:
        source = path.read_text(encoding="utf-8")
        text = blank(source)
        name = str(path.relative_to(self.root))
        inserts: list[tuple[int, int, str]] = []  # position, how many characters it replaces, text

        def plant(kind: str, begin: int, end: int) -> int:
            number = len(self.mutants)
            line = text.count("\n", 0, begin) + 1
            shown = " ".join(source[begin:end].split())
            self.mutants.append(Mutant(number, name, line, kind, shown[:100]))
            return number

        if "core/src/ops/" in name:
            for begin, end in merged(rules(text)):
                for match in re.finditer(rf"(?<![\w:.#!])({FLIPPED})\(", text[begin:end]):
                    at = begin + match.start()
                    if re.search(r"\bfn\s+$", text[:at]):
                        continue
                    last = close(text, begin + match.end() - 1)
                    n = plant("flips the sign", at, last)
                    inserts += [(at, 0, f"crate::mutant::flip::<{n}>("), (last, 0, ")")]
                for match in re.finditer(r"(?<![\w:.#!])(add|subtract)\(", text[begin:end]):
                    at = begin + match.start()
                    last = close(text, begin + match.end() - 1)
                    n = plant("drops the second term", at, last)
                    inserts.append((at, len(match.group(1)), f"crate::mutant::{match.group(1)}::<_, _, {n}>"))
                for match in re.finditer(r"\bg\.clone\(\)", text[begin:end]):
                    at = begin + match.start()
                    n = plant("flips the sign", at, begin + match.end())
                    inserts.append((at, len(match.group(0)), f"crate::mutant::own::<{n}>(&g)"))
        elif "backend/src/" in name:
            for begin, end in merged(backend_rules(text)):
                for match in re.finditer(r"(?<![\w:.#!])done\(", text[begin:end]):
                    at = begin + match.start()
                    last = close(text, begin + match.end() - 1)
                    n = plant("flips the sign", at, last)
                    inserts += [(at, 0, f"crate::mutant::flip::<{n}>(self, "), (last, 0, ")")]
        else:
            for begin, end in merged(kernel_rules(text)):
                for match in re.finditer(r"\bS::(add|sub|fma|fnma|mul)\(", text[begin:end]):
                    at = begin + match.start()
                    last = close(text, begin + match.end() - 1)
                    to = VECTOR[match.group(1)]
                    n = plant(f"{match.group(1)} becomes {to}", at, last)
                    inserts.append((at, len(match.group(0)) - 1, f"crate::mutant::{match.group(1)}::<S, {n}>"))
                for match in re.finditer(r"\+= (?=[^;]*;)([^;]+);", text[begin:end]):
                    if not re.search(r"\bg\b|\bdy\b", match.group(1)):
                        continue
                    at, last = begin + match.start(1), begin + match.end(1)
                    n = plant("flips the sign", at, last)
                    inserts += [(at, 0, f"crate::mutant::scalar::<_, {n}>("), (last, 0, ")")]
        if not inserts:
            return
        # Insertions of one place keep their order: what opens stands outside what is replaced behind it.
        for at, length, new in sorted(inserts, key=lambda i: i[0], reverse=True):
            source = source[:at] + new + source[at + length :]
        path.write_text(source, encoding="utf-8")


def plant(root: Path) -> list[Mutant]:
    """Rewrites the sources under `root` (a copy!) and returns what was planted."""
    planter = Planter(root)
    skip = re.compile(r"tests?\.rs$|testing\.rs$|/reference/")
    for folder in ("rust/core/src/ops", "rust/backend/src/backend", "rust/kernels/src"):
        for path in sorted((root / folder).rglob("*.rs")):
            if not skip.search(str(path.relative_to(root))) and path.name != "mutant.rs":
                planter.file(path)
    for crate in ("kernels", "backend", "core"):
        source = root / "rust" / crate / "src"
        shutil.copy(Path(__file__).with_name(f"{crate}.rs"), source / "mutant.rs")
        lib = source / "lib.rs"
        lib.write_text(
            lib.read_text(encoding="utf-8") + "\n#[allow(missing_docs)]\npub mod mutant;\n", encoding="utf-8"
        )
    return planter.mutants
