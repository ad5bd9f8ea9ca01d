"""The rules of docs/architecture.md that neither Cargo nor the type checkers hold."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUST = ROOT / "rust"
PYTHON = ROOT / "python" / "corten"


def tracked(*suffixes: str) -> list[Path]:
    """Files of the project: what git knows, or would know (nothing built)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        paths = [ROOT / name for name in names]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, without git
        built = {"target", ".venv", "dist", "out", "__pycache__", ".git"}
        paths = [p for p in ROOT.rglob("*") if not built & set(p.relative_to(ROOT).parts)]
    return sorted(p for p in paths if p.is_file() and (not suffixes or p.suffix in suffixes))


def code(path: Path) -> str:
    """A Rust file without comments, strings and unit tests (`mod tests` comes last in a file)."""
    text = path.read_text(encoding="utf-8")
    text = re.split(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{", text)[0]
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
    return re.sub(r"//[^\n]*", "", text)


def rust(*parts: str) -> list[Path]:
    folder = RUST.joinpath(*parts)
    files = [p for p in tracked(".rs") if folder in p.parents or p == folder]
    # Whole files under cfg(test), by their names.
    test = re.compile(r"(?:^|_)tests?(?:ing)?\.rs$")
    return [p for p in files if not test.search(p.name) and "tests" not in p.relative_to(RUST).parts]


def offenders(paths: list[Path], pattern: str, allowed: set[str] = frozenset()) -> list[str]:
    return [
        f"{p.relative_to(ROOT)}: {match.group(0).strip()}"
        for p in paths
        if str(p.relative_to(RUST)) not in allowed
        for match in re.finditer(pattern, code(p))
    ]


def test_the_scanner_sees_the_project() -> None:
    """If the helpers above found nothing, every test below would pass for nothing."""
    assert len(rust("kernels")) > 15
    assert len(rust("formats")) > 3
    assert len(rust("backend")) > 8
    assert len(rust("core")) > 15
    assert len(rust("python")) > 5
    assert len(list(PYTHON.rglob("*.py"))) > 15
    assert offenders(rust("python"), r"\bpyo3\b")


# -- crates


def all_rust() -> list[Path]:
    return [p for crate in ("kernels", "formats", "backend", "core", "python") for p in rust(crate)]


def dependencies(crate: str) -> str:
    text = (RUST / crate / "Cargo.toml").read_text(encoding="utf-8")
    return re.sub(r"#[^\n]*", "", text)


def test_pyo3_only_in_the_seam() -> None:
    below = ("kernels", "formats", "backend", "core")
    for crate in below:
        assert not offenders(rust(crate), r"\bpyo3\b")
        assert "pyo3" not in dependencies(crate)


def test_the_seam_has_its_own_function_macros() -> None:
    """pyo3's would do, but leave operation and argument out of the errors of conversions."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in rust("python", "src")}
    assert sum("#[pyfunction]" in text for text in texts.values()) > 10
    for file, text in texts.items():
        ours = "".join(re.findall(r"use corten_python_macros::([^;]+);", text))
        for name in set(re.findall(r"#\[(pyfunction|pymethods)\b", text)):
            assert name in ours, f"{file} uses pyo3's {name}: import corten_python_macros::{name}"


def test_rayon_only_in_parallel() -> None:
    assert not offenders(all_rust(), r"\brayon\b", {"kernels/src/parallel.rs"})
    assert "rayon" not in dependencies("backend") + dependencies("core") + dependencies("python")


def test_threads_are_started_in_parallel_only() -> None:
    assert not offenders(all_rust(), r"thread::(spawn|scope|Builder)", {"kernels/src/parallel.rs"})


def test_crates_depend_downwards_only() -> None:
    assert "corten-" not in dependencies("formats").split("[dependencies]")[1]
    order = ["corten-kernels", "corten-backend", "corten-core", "corten-python"]
    for index, crate in enumerate(order):
        needs = dependencies(crate.removeprefix("corten-")).split("[dependencies]")[1]
        assert not [above for above in order[index + 1 :] if above in needs], crate


def test_unsafe_only_where_it_is_allowed() -> None:
    """Kernels, the storage, and the seam's three files that meet foreign memory; clippy wants a SAFETY comment each."""
    seam = {f"python/src/{name}.rs" for name in ("arrays", "export", "dlpack")}
    allowed = {"backend/src/storage.rs", *seam}
    assert not offenders(rust("backend") + rust("core") + rust("python"), r"\bunsafe\s*(?:\{|fn|impl)", allowed)


def test_files_are_parsed_in_formats_only() -> None:
    """One place meets hostile bytes: without unsafe, and with nothing of corten to misuse."""
    others = [p for p in all_rust() if RUST / "formats" not in p.parents]
    assert not offenders(others, r"\bserde_json\b")
    assert "#![forbid(unsafe_code)]" in (RUST / "formats" / "src" / "lib.rs").read_text(encoding="utf-8")
    # A vocabulary is a few strings, which Python's own parser reads; what it finds is checked as arguments are.
    vocabulary = PYTHON / "text" / "tokenizer.py"
    assert not [p for p in PYTHON_FILES if p != vocabulary and "json.load" in p.read_text(encoding="utf-8")]


def test_lints_are_inherited_by_every_crate() -> None:
    for manifest in RUST.glob("*/Cargo.toml"):
        assert re.search(r"\[lints\]\s*workspace = true", manifest.read_text(encoding="utf-8")), manifest


def test_builds_stay_portable_and_unwinding() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in tracked(".toml", ".yml", ".yaml") if p.name != "Cargo.lock")
    assert not re.search(r"panic\s*=\s*\"abort\"", text)
    assert "target-cpu=native" not in text


# -- inside the core


def test_foundations_know_nothing_above_them() -> None:
    low = [
        RUST / "backend" / "src" / f"{name}.rs" for name in ("error", "shape", "dtype", "layout", "storage", "device")
    ]
    assert all(p.exists() for p in low)
    assert not offenders(low, r"\b(?:crate|super)::(?:value|backend)\b")


def test_autograd_never_names_an_operation() -> None:
    """The engine walks nodes. Of the operations it knows only those that add up gradients, differentiably."""
    files = [p for p in rust("core", "src", "autograd") if p.name not in ("check.rs", "twin.rs")]
    assert {p.name for p in files} >= {"engine.rs", "node.rs", "mode.rs"}
    assert not offenders(files, r"\bops::(?!(?:add|sum_to|astype|copy|ones_like)\b)\w+|\bops::\{")
    assert not offenders(files, r"\.name\(\)\s*(?:==|!=)|match [^\n{]*\.name\(\)")


def test_the_engine_is_short() -> None:
    engine = RUST / "core" / "src" / "autograd" / "engine.rs"
    lines = [line for line in code(engine).splitlines() if line.strip()]
    assert len(lines) <= 200, f"{len(lines)} lines of code"


def test_backends_know_no_graph() -> None:
    assert not offenders(rust("backend"), r"\bcorten_core\b|requires_grad")


def test_operations_never_ask_for_the_device() -> None:
    """They pass it on (creation) or compare two (mixing is an error), but never branch on what it is."""
    assert not offenders(rust("core", "src", "ops"), r"\bDevice::(?!from_name|default)\w+|match [^\n{]*\.device\(\)")


def test_pools_and_chains_are_freed_without_recursion() -> None:
    """A long graph must be dropped by a loop: the node has a Drop of its own."""
    assert offenders(rust("core", "src", "autograd"), r"impl Drop for \w+")


# -- kernels and twins

#: Modules of corten-kernels whose public functions are kernels.
FAMILIES = [
    "elementwise",
    "reduce",
    "norm",
    "softmax",
    "loss",
    "pool",
    "index",
    "optim",
    "rng",
    "gemm",
    "conv",
    "rnn",
    "attention",
    "scan",
    "sort",
]
#: Public functions that are no kernels: sizes and plans.
NO_KERNELS = re.compile(r"workspace|_len$|^plan|^k_blocks$|^threads_for|^set_|^with_")


def public_functions(folder: Path, name: str) -> dict[str, str]:
    """name -> argument types of the public functions that a module's front file defines or re-exports."""
    front = folder / f"{name}.rs"
    front = front if front.exists() else folder / name / "mod.rs"
    assert front.exists(), f"no module {name} in {folder.relative_to(ROOT)}"
    files = {front, *rust(*(folder / name).relative_to(RUST).parts)}
    exported = set(re.findall(r"\w+", " ".join(re.findall(r"^pub use ([^;]+);", code(front), re.MULTILINE))))
    found = {}
    for file in files:
        for match in re.finditer(r"^pub fn (\w+)(?:<[^(]*>)?\(([^)]*(?:\([^)]*\)[^)]*)*)\)", code(file), re.MULTILINE):
            if NO_KERNELS.search(match.group(1)) or (file != front and match.group(1) not in exported):
                continue
            types = re.sub(r"\s+", "", re.sub(r"(?:mut )?\w+\s*:\s*", "", match.group(2))).rstrip(",")
            found[match.group(1)] = re.sub(r"\b(?:crate|super)(?:::\w+)*::", "", types)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kernel_has_a_twin_of_the_same_signature(family: str) -> None:
    source = RUST / "kernels" / "src"
    kernels, twins = public_functions(source, family), public_functions(source / "reference", family)
    assert kernels, "no kernels found"
    missing = set(kernels) - set(twins)
    assert not missing, f"kernels without a twin: {sorted(missing)}"
    different = {name: (kernels[name], twins[name]) for name in kernels if kernels[name] != twins[name]}
    assert not different, different


def test_twins_are_plain_loops() -> None:
    """What everyone can read: no threads, no SIMD, no unsafe."""
    files = rust("kernels", "src", "reference")
    assert not offenders(files, r"\bunsafe\b|\bparallel::|\bsimd::|std::arch|core::arch")


# -- Python

#: What each package of corten may import of corten, besides itself. `_core` is the compiled module.
MAY_IMPORT = {
    "checks": {"_core"},
    "functions": {"checks", "_core"},
    "grad_mode": {"_core"},
    "namespace": {"functions"},
    "interop": {"functions"},  # tells other libraries of corten, which corten never imports
    "autograd": {"_core", "checks", "functions"},
    "testing": {"_core", "autograd", "functions"},
    "nn": {"_core", "checks", "functions", "grad_mode", "autograd"},
    "optim": {"_core", "checks", "functions", "grad_mode"},
    "io": {"_core", "checks", "functions"},
    "data": {"_core", "checks", "functions"},
    "datasets": {"_core", "checks", "data", "functions"},
    "text": {"nn", "io", "checks", "functions"},
    "models": {"nn", "text", "checks", "functions"},
    "viz": {"nn", "data", "checks", "functions"},
    "train": {"nn", "optim", "data", "io", "checks", "functions", "grad_mode", "viz", "autograd"},
}
#: The front door and the command line, which show everything.
DOORS = {"__init__", "__main__", "cli", "demo"}
#: The thin modules that may import the compiled core directly.
CORE_USERS = {
    "checks",
    "functions",
    "autograd",
    "grad_mode",
    "testing",
    "nn",
    "optim",
    "io",
    "data",
    "datasets",
    "__init__",
    "__main__",
}


def room(path: Path) -> str:
    parts = path.relative_to(PYTHON).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    """The rooms of corten that a Python file imports, wherever in the file the import stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["corten", *path.relative_to(PYTHON).parent.parts]
    found: set[str] = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "corten" else [module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "corten":
                found.add(parts[1] if len(parts) > 1 else "corten")
    return found


PYTHON_FILES = [p for p in tracked(".py") if PYTHON in p.parents]


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda p: str(p.relative_to(PYTHON)))
def test_imports_run_down(path: Path) -> None:
    here = room(path)
    if here in DOORS:
        return
    assert here in MAY_IMPORT, f"{here} is a new room: say in docs/architecture.md and here what it may import"
    used = imports(path) - {here}
    assert used <= MAY_IMPORT[here], f"{here} imports {sorted(used - MAY_IMPORT[here])}"
    if "_core" in used:
        assert here in CORE_USERS


def test_only_functional_modules_touch_the_core_within_nn() -> None:
    users = {p.relative_to(PYTHON).as_posix() for p in PYTHON_FILES if room(p) == "nn" and "_core" in imports(p)}
    users = {u for u in users if not u.startswith("nn/functional/")}
    assert users <= {"nn/parameter.py", "nn/init.py"}, users


def test_nothing_imports_train() -> None:
    users = {room(p) for p in PYTHON_FILES if "train" in imports(p)}
    assert users <= DOORS | {"train"}, users


def test_numpy_is_the_only_hard_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [re.match(r"[\w-]+", d).group(0) for d in project["dependencies"]] == ["numpy"]
    heavy = {"matplotlib", "torch", "jax", "safetensors", "pandas", "PIL", "einops"}
    for path in PYTHON_FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:  # at the top of the file: inside a function it is optional
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not heavy & {n.split(".")[0] for n in names}, path


def test_wrong_arguments_are_not_asserted() -> None:
    """`python -O` removes assertions: the library raises typed errors instead."""
    guilty = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in PYTHON_FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert not guilty, guilty


def test_no_pickle_and_no_eval() -> None:
    text = {p: p.read_text(encoding="utf-8") for p in PYTHON_FILES}
    assert not [
        p for p, t in text.items() if re.search(r"\b(?:import pickle|pickle\.|eval\(|exec\()", t) and ".eval(" not in t
    ]


# -- the whole house


def test_files_are_short() -> None:
    """About 800 lines; the lock files are written by tools."""
    long = {}
    for path in tracked(".rs", ".py", ".pyi", ".md", ".toml"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > 850:
            long[str(path.relative_to(ROOT))] = lines
    assert not long, long


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(?:todo|unimplemented)!\s*\(|\b(?:TODO|FIXME|XXX|HACK)\b")
    guilty = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in tracked(".rs", ".py", ".pyi", ".md", ".toml", ".sh")
        if path != Path(__file__)
        for match in marks.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not guilty, guilty


def test_no_machine_paths() -> None:
    """Nothing in the project knows the machine that it was written on."""
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/\w+")
    guilty = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in tracked(".rs", ".py", ".pyi", ".md", ".toml", ".sh", ".yml", ".yaml")
        if path != Path(__file__)
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not guilty, guilty


def test_ignored_tests_say_why() -> None:
    guilty = [
        str(p.relative_to(ROOT)) for p in tracked(".rs") if re.search(r"#\[ignore\]", p.read_text(encoding="utf-8"))
    ]
    assert not guilty, f"#[ignore] without a reason: {guilty}"


# -- public names

PUBLIC = {
    "corten": """
        tensor Tensor no_grad enable_grad grad manual_seed set_num_threads get_num_threads InternalError asarray
        from_numpy from_dlpack zeros ones full arange linspace eye rand randn exp log sqrt abs pow clip where maximum
        minimum sum mean max min var std argmax argmin any all matmul reshape permute_dims transpose squeeze expand_dims
        broadcast_to concat stack split flip float32 float64 int64 int32 int16 int8 uint8 bool_ nn optim data
        datasets train io autograd vjp jvp jacobian hessian hvp value_and_grad detect_anomaly why_no_grad
    """,
    "corten.autograd": "Function FunctionCtx once_differentiable gradcheck gradgradcheck AnomalyError",
    "corten.nn": """
        Module Parameter Sequential ModuleList Identity Linear Conv2d MaxPool2d AvgPool2d AdaptiveAvgPool2d
        Flatten BatchNorm1d BatchNorm2d Dropout ReLU GELU Sigmoid Tanh Softplus Softmax CrossEntropyLoss MSELoss
        BCEWithLogitsLoss init functional LeakyReLU PReLU ELU CELU SELU Mish Hardtanh ReLU6 Softsign Hardsigmoid
        Hardswish LogSigmoid Tanhshrink Softshrink Hardshrink Threshold GLU Softmin NLLLoss L1Loss HuberLoss
        SmoothL1Loss KLDivLoss BCELoss LayerNorm RMSNorm GroupNorm InstanceNorm1d InstanceNorm2d LocalResponseNorm
        Embedding Conv1d MaxPool1d AvgPool1d AdaptiveAvgPool1d ConvTranspose1d ConvTranspose2d AdaptiveMaxPool1d
        AdaptiveMaxPool2d LPPool1d LPPool2d GlobalAvgPool1d GlobalAvgPool2d GlobalMaxPool1d GlobalMaxPool2d Dropout1d
        Dropout2d Unflatten Fold Unfold Upsample PixelShuffle PixelUnshuffle ZeroPad1d ZeroPad2d ConstantPad1d
        ConstantPad2d ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d CircularPad1d CircularPad2d
        CosineSimilarity PairwiseDistance utils RNN LSTM GRU RNNCell LSTMCell GRUCell Scan LayerNormLSTMCell
        ProjectedLSTMCell Zoneout VariationalDropout
    """,
    "corten.nn.functional": """
        relu gelu sigmoid tanh softplus softmax log_softmax linear conv2d max_pool2d avg_pool2d dropout
        batch_norm cross_entropy binary_cross_entropy_with_logits mse_loss conv_transpose1d conv_transpose2d
        adaptive_max_pool1d adaptive_max_pool2d lp_pool1d lp_pool2d fold unfold interpolate pixel_shuffle
        pixel_unshuffle normalize cosine_similarity pairwise_distance dropout1d dropout2d rnn lstm gru
    """,
    "corten.nn.utils": """
        clip_grad_norm_ clip_grad_value_ get_total_norm parameters_to_vector recompute vector_to_parameters
    """,
    "corten.optim": "SGD Adam Optimizer",
    "corten.data": "Dataset TensorDataset DataLoader",
    "corten.datasets": "alice mnist",
    "corten.text": "CharTokenizer ByteTokenizer sample Sampler perplexity generate stream",
    "corten.train": "Trainer TruncatedBPTT detach_state",
    "corten.viz": "bptt",
    "corten.io": "save load",
    "corten.testing": "gradcheck gradgradcheck assert_close",
}
METHODS = """
    requires_grad_ backward grad detach numpy item astype to tolist reshape permute transpose expand sum mean
    max min argmax relu exp __array__ clone contiguous retain_grad register_hook sort argsort topk take
    take_along_axis nonzero unsqueeze
"""


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_exist(module: str) -> None:
    import importlib

    loaded = importlib.import_module(module)
    missing = [name for name in PUBLIC[module].split() if not hasattr(loaded, name)]
    assert not missing, f"{module} lacks {missing}"


def test_tensor_methods_exist() -> None:
    import corten as ct

    missing = [name for name in METHODS.split() if not hasattr(ct.Tensor, name)]
    assert not missing, missing


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_documented(module: str) -> None:
    import importlib

    loaded = importlib.import_module(module)
    assert loaded.__doc__
    bare = [
        name
        for name in PUBLIC[module].split()
        if callable(getattr(loaded, name)) and not (getattr(loaded, name).__doc__ or "").strip()
    ]
    assert not bare, f"{module}: no docstring on {bare}"


# -- documents

DOCUMENTS = [p for p in tracked(".md") if p.parent in (ROOT, ROOT / "docs")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_commands_in_documents_exist(path: Path) -> None:
    used = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert used <= make_targets(), sorted(used - make_targets())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_in_documents_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_paths_in_documents_exist(path: Path) -> None:
    """A path in backquotes that starts in a folder of the project names a file or folder of today."""
    text = path.read_text(encoding="utf-8")
    if path.name == "CHANGELOG.md":
        return
    for name in re.findall(r"`((?:rust|python|tests|docs|benches|examples|tools)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_python_in_documents_compiles(path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        compile(block, path.name, "exec")


def test_names_in_readme_exist() -> None:
    """Every `from corten... import name` of the README works."""
    import importlib

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    statements = re.findall(r"^from (corten[\w.]*) import ([\w, ]+)$", text, re.MULTILINE)
    assert statements
    for module, names in statements:
        loaded = importlib.import_module(module)
        for name in names.split(","):
            if not hasattr(loaded, name.strip()):
                importlib.import_module(f"{module}.{name.strip()}")


def test_ci_runs_make_check() -> None:
    assert re.search(r"^make check$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
