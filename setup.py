"""What pyproject.toml cannot say: the converter and the configs are installed within glc_jax.

At the top of the repository they are packages of their own; installed there, a folder of the
user's named `configs` would hide ours, or ours theirs.
"""

from setuptools import find_namespace_packages, setup

WITHIN = ("conversion", "configs")

setup(
    packages=[*find_namespace_packages(include=["glc_jax*"]), *(f"glc_jax.{w}" for w in WITHIN)],
    package_dir={f"glc_jax.{name}": name for name in WITHIN},
)
