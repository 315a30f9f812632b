#!/usr/bin/env bash
# Sets everything up in .venv, then compresses a photograph to a .glc file and decompresses it in
# another process; prints bytes, bits per pixel, PSNR and seconds, and writes a picture to look at.
#   bash scripts/demo.sh [--rate 1.5] [--weights NAME|PATH] [--output FOLDER] [PHOTO]
set -euo pipefail
caller="$PWD"
cd "$(dirname "$0")/.."
source scripts/setup_venv.sh demo
checkout="$PWD"
cd "$caller"
exec python "$checkout/scripts/demo.py" "$@"
