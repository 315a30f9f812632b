import json
import subprocess
import sys

PROBE = """
import json, sys, time
began = time.process_time()
import glc_jax.entropy
took = time.process_time() - began
heavy = [m for m in ("jax", "flax", "optax", "orbax") if m in sys.modules]
glc_jax.entropy.family("laplace")
needed = [m for m in ("flax", "optax", "orbax") if m in sys.modules]
print(json.dumps([took, heavy, needed]))
"""


def test_the_package_is_there_at_once_and_never_needs_flax():
    """Measured: 0.1 s on an idle machine; JAX itself takes 0.5 s, when a family is first used."""
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    took, heavy, needed = json.loads(run.stdout)
    assert heavy == []
    assert needed == []
    assert took < 0.5


def test_the_names_of_the_package_are_listed():
    import glc_jax.entropy

    for name in glc_jax.entropy.__all__:
        assert getattr(glc_jax.entropy, name) is not None
        assert name in dir(glc_jax.entropy)
