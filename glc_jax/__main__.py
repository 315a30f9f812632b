"""`python -m glc_jax` is `glc`."""

from glc_jax.cli import main

if __name__ == "__main__":
    main()
