#!/usr/bin/env bash
# Builds compresso with --features cuda on any x86-64 Linux machine, with or without a GPU or CUDA: the compiler comes from Python
# packages of NVIDIA's, and CUDA's libraries are opened at run time (scripts/cuda_stubs.py), so that the program starts anywhere.
#
#   scripts/cuda-build.sh [--compute-capability 80] [--profile release] [--jobs N] [--out FOLDER]
#       [--tools FOLDER] [--only-tools] [--tests]
#
# candle's own kernels are built for the compute capability given and run on it and on later ones; compresso's are compiled at run time
# for the GPU that is there. Writes compresso and compresso-cuda.tar.gz to FOLDER (cuda-output). --only-tools fetches compiler and stubs
# into FOLDER (cuda-13.0 in the target folder) and prints the environment of a build, for `eval`. --tests adds the
# tests that scripts/cuda-check.sh runs on a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

capability=80 profile=release out=cuda-output jobs="$(nproc)" tools= only_tools= tests=
while [ $# -gt 0 ]; do
  case "$1" in
    --compute-capability) capability="${2//./}"; shift 2 ;;
    --profile) profile="$2"; shift 2 ;;
    --jobs) jobs="$2"; shift 2 ;;
    --out) out="$2"; shift 2 ;;
    --tools) tools="$2"; shift 2 ;;
    --tests) tests=yes; shift ;;
    --only-tools) only_tools=yes; shift ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
case "$capability" in [5-9][0-9] | 1[0-9][0-9]) ;; *) echo "a compute capability is a number such as 80 or 8.0, not '$capability'" >&2; exit 2 ;; esac
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "only x86-64 Linux can be built for" >&2; exit 1; }
command -v cargo >/dev/null || . "$HOME/.cargo/env"

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/compresso/target}"
tools="${tools:-$CARGO_TARGET_DIR/cuda-13.0}"
cuda="$tools/nvidia/cu13"
if [ ! -e "$tools/complete" ]; then
  rm -rf "$tools"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$tools" nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2
  chmod +x "$cuda"/bin/* "$cuda"/nvvm/bin/*
  ln -sfn lib "$cuda/lib64"
  # The runtime is linked in; it opens the driver itself.
  mkdir -p "$cuda/lib/stubs"
  ln -sf ../libcudart_static.a "$cuda/lib/stubs/libcudart.a"
  cargo fetch --locked --target x86_64-unknown-linux-gnu >&2
  cudarc="$(cargo metadata --locked --offline --format-version 1 --features cuda |
    python3 -c 'import json, os, sys; print(*[os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"])')"
  python3 scripts/cuda_stubs.py "$cudarc/src" "$cuda/lib/stubs" >&2
  touch "$tools/complete"
fi
export CUDA_HOME="$cuda" CUDA_PATH="$cuda" CUDA_ROOT="$cuda" CUDA_TOOLKIT_ROOT_DIR="$cuda" PATH="$cuda/bin:$PATH"
export CUDA_COMPUTE_CAP="$capability" CUDAFORGE_THREADS="$jobs" COMPRESSO_CUDA="opened at run time"
if [ -n "$only_tools" ]; then
  for name in CARGO_TARGET_DIR CUDA_HOME CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR PATH CUDA_COMPUTE_CAP CUDAFORGE_THREADS COMPRESSO_CUDA; do
    printf 'export %s=%q\n' "$name" "${!name}"
  done
  exit
fi

start=$SECONDS
cargo build --locked --profile "$profile" --jobs "$jobs" --features cuda --bin compresso
folder="$profile"
[ "$profile" != dev ] || folder=debug
mkdir -p "$out"
strip -o "$out/compresso" "$CARGO_TARGET_DIR/$folder/compresso"
if ldd "$out/compresso" | grep -E 'libcu|libnv'; then
  echo "the program needs these libraries to start" >&2
  exit 1
fi
if [ -n "$tests" ]; then
  # The same packages, so that dependencies are those of the program.
  test="$(cargo test --locked --profile "$profile" --jobs "$jobs" --features cuda -p compresso -p compresso-kernels --lib --no-run --message-format json |
    python3 -c 'import json, sys; print(*[m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable") and m["target"]["name"] == "compresso_kernels"])')"
  strip -o "$out/compresso-kernels-tests" "$test"
fi
tar -C "$out" -czf "$out/compresso-cuda.tar.gz" compresso
printf 'built in %d s for compute capability %s: %s MB, %s MB packed\n' $((SECONDS - start)) "$capability" \
  "$(du -m --apparent-size "$out/compresso" | cut -f1)" "$(du -m --apparent-size "$out/compresso-cuda.tar.gz" | cut -f1)"
