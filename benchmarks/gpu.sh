#!/usr/bin/env bash
# Every check that needs a GPU, on one of them, in under 8 minutes, as one table:
#
#   LIT_GEN_DATA=DIR benchmarks/gpu.sh      # DIR/tinyshakespeare/input.txt
#   benchmarks/gpu.sh --dry-run             # tiny, on a CPU: shows that the checks themselves work
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ " $* " == *" --dry-run "* ]]; then export CUDA_VISIBLE_DEVICES=""; else export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"; fi
exec python -m benchmarks.gpu "$@"
