#!/bin/sh
# Says whether this machine can build corten and, if not, exactly what to install.
# Usage: tools/preflight.sh            checks, prints nothing when all is well
#        tools/preflight.sh --python   also prints the Python to use (the only line on stdout)
# Needs nothing but a POSIX shell, sed and awk.
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
min_rust=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$root/Cargo.toml" | head -n 1)
min_python=3.11
problems=0

problem() {
    problems=$((problems + 1))
    printf '\n  %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '      %s\n' "$line" >&2; done
}

# at_least HAVE WANT: true when version HAVE is WANT or newer.
at_least() {
    awk -v have="$1" -v want="$2" 'BEGIN {
        n = split(want, w, "."); split(have, h, ".")
        for (i = 1; i <= n; i++) { if (h[i] + 0 > w[i] + 0) exit 0; if (h[i] + 0 < w[i] + 0) exit 1 }
        exit 0
    }'
}

# Rust: rustup puts it where a fresh shell may not look yet.
PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"
if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
    problem "Rust is missing: corten is built with cargo and rustc $min_rust or newer. Install it with" \
        "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" \
        "(see https://rustup.rs), then open a new shell and run make again."
else
    have=$(rustc --version 2>/dev/null | awk '{print $2}' | sed 's/-.*//')
    if [ -z "$have" ]; then
        problem "rustc is installed but does not run. With rustup:" "rustup default stable"
    elif ! at_least "$have" "$min_rust"; then
        problem "Rust $have is too old: corten needs $min_rust or newer. Update it with" \
            "rustup update stable" \
            "(no rustup? distribution packages lag behind: install it from https://rustup.rs)."
    fi
fi

if ! command -v cc >/dev/null 2>&1 && ! command -v gcc >/dev/null 2>&1 && ! command -v clang >/dev/null 2>&1; then
    problem "There is no C compiler, which Rust needs for linking. Install one with" \
        "apt-get install build-essential     (Debian, Ubuntu)" \
        "dnf install gcc                     (Fedora, RHEL)" \
        "pacman -S base-devel                (Arch)"
fi

# Python: the one that PYTHON names, else the first that is new enough.
python='' found=''
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    have=$("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
    found="$found $candidate is $have;"
    if at_least "$have" "$min_python"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    if [ -n "${PYTHON:-}" ]; then
        problem "PYTHON=$PYTHON cannot be used: corten needs Python $min_python or newer.${found:+ Found:${found%;}.}"
    elif [ -n "$found" ]; then
        problem "Python is too old: corten needs $min_python or newer. Found:${found%;}. Install a newer one with" \
            "apt-get install python3.12 python3.12-venv   (Debian, Ubuntu; any version from $min_python on)" \
            "uv python install 3.12                       (anywhere, with https://docs.astral.sh/uv/)" \
            "then run: make PYTHON=python3.12 ..."
    else
        problem "Python is missing: corten needs $min_python or newer. Install it with" \
            "apt-get install python3 python3-venv         (Debian, Ubuntu)" \
            "dnf install python3                          (Fedora, RHEL)"
    fi
elif ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    problem "$python has no venv module. Install it with" "apt-get install python$version-venv"
fi

if [ "$problems" -gt 0 ]; then
    printf '\ncorten cannot be built yet: please fix the above and run make again.\n' >&2
    exit 1
fi
[ "${1:-}" = --python ] && echo "$python"
exit 0
