#!/usr/bin/env bash
# Judges the kernels and the program on a GPU, in under 8 minutes, with what scripts/cuda-build.sh --tests made on any machine:
#
#   scripts/cuda-check.sh [FOLDER] [PYTHON]
#
# FOLDER (cuda-output) has compresso and compresso-kernels-tests. The tests are those that the CPU runs under emulation, on the device; then
# YOLOv8n is timed against PyTorch on the same card, where PYTHON (python3) has torch and ultralytics. Writes FOLDER/cuda-check.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder="${1:-cuda-output}" python="${2:-python3}"
start=$SECONDS

# CUDA's libraries as torch brings them, where there is no toolkit. In front of what is set: NVRTC and cuBLAS must be of one version.
libraries="$("$python" -c 'import glob, sysconfig; print(*glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/lib"), sep=":")' 2>/dev/null || true)"
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

"$folder/compresso" eval 'device("cuda:0")'
{
  printf '# Kernels and YOLOv8n on a GPU, %s\n\n' "$(date -u +%F)"
  echo '```text'
  # Without a device these tests would pass emulated.
  COMPRESSO_NEEDS_CUDA=1 timeout 200 "$folder/compresso-kernels-tests" cuda:: 2>&1 | grep -E '^test |panicked|result' || true
  echo '```'
  echo
  timeout 260 "$python" scripts/cuda_check.py "$folder/compresso" || echo 'PyTorch was not timed.'
} | tee "$folder/cuda-check.md"
! grep -qE 'FAILED|panicked' "$folder/cuda-check.md"
grep -q 'test result: ok' "$folder/cuda-check.md"
echo "checked in $((SECONDS - start)) s: $folder/cuda-check.md"
