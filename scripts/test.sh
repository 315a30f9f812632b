#!/usr/bin/env bash
# Sets everything up in .venv and runs the tests.
#   bash scripts/test.sh           all of them
#   bash scripts/test.sh --quick   without those marked slow
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/setup_venv.sh dev

ruff check .
ruff format --check .

selection=()
if [[ "${1:-}" == "--quick" ]]; then
    shift
    selection=(-m "not slow")
fi
exec python -m pytest "${selection[@]}" "$@"
