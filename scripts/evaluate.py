"""`glc evaluate` under its name as a script, with its options: docs/evaluation.md.

python scripts/evaluate.py photos/ -o report --against avif webp jxl jpeg
"""

import sys

from glc_jax import cli

if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate"]
    cli.main()
