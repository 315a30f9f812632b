#!/usr/bin/env bash
# Sets everything up in .venv and runs the tests.
#   bash scripts/test.sh           all of them
#   bash scripts/test.sh --quick   without those marked slow
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/setup_venv.sh dev

# The report's page is tested in Chromium; where there is none, that test says so and is skipped.
if [[ "${CI:-}" == "true" && "$(id -u)" == 0 ]] && ! command -v chromedriver > /dev/null; then
    (apt-get update && apt-get install --yes --no-install-recommends chromium chromium-driver) \
        > /dev/null 2>&1 || echo "Chromium could not be installed."
fi

# The reader of checkpoints is compared with PyTorch's where that is installed, as it is in CI.
if [[ "${CI:-}" == "true" ]] && ! python -c "import torch" 2> /dev/null; then
    python -m pip install --quiet torch==2.13.0 || echo "PyTorch could not be installed."
fi

ruff check .
ruff format --check .

selection=()
if [[ "${1:-}" == "--quick" ]]; then
    shift
    selection=(-m "not slow")
fi
# A file is one process's: its tests share what its fixtures compute. In tests/conftest.py's order.
exec python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
    --no-loadscope-reorder "${selection[@]}" "$@"
