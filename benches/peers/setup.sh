#!/bin/sh
# Makes everything that run.py needs: a Python environment with the packages of requirements.txt, the C workers, the Rust
# worker. Wants python3 (3.11 or later), gcc, g++ and cargo.
#
#   VENV   where the environment is made (.venv)
#   BUILD  where the C workers are built (build)
#   CARGO_TARGET_DIR, as cargo has it (target)
set -eu
cd "$(dirname "$0")"
VENV=${VENV:-$PWD/.venv}
BUILD=${BUILD:-$PWD/build}

[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
"$VENV/bin/pip" install --quiet --requirement requirements.txt

mkdir -p "$BUILD"
flags="-O3 -march=native -fopenmp -Wall -Wextra"
gcc $flags limits.c -o "$BUILD/limits"
# The Python packages of MKL have no names without a version for the linker.
gcc $flags -mprefer-vector-width=512 -ffast-math -rdynamic "-I$VENV/include" mkl.c -o "$BUILD/mkl" "-L$VENV/lib" "-Wl,-rpath,$VENV/lib" \
    -l:libmkl_intel_lp64.so.3 -l:libmkl_gnu_thread.so.3 -l:libmkl_core.so.3 -lmvec -lm -ldl

cargo build --release
