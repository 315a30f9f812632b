"""Program: python -m tests.training.layouts STAGE, with eight virtual devices.

Takes three steps of a stage on one device with the whole batch, under jit over a mesh (4, 2) with
sharded parameters and, in stage 1, over a mesh (8, 1) and under pmap, and prints as JSON how far
the states are from the first one's.
"""

import json
import sys

import jax
import numpy as np

from glc_jax.training import networks, sharding
from glc_jax.training.start import first_state
from glc_jax.training.step import make_train_step
from tests.training import small

STEPS = 3
DEVICES = 8


def main(stage: int) -> None:
    assert jax.device_count() == DEVICES
    # eps keeps Adam from blowing up differences of gradients that are zero but for rounding.
    config = small.config(
        stage,
        optimizer__eps=1e-3,
        adversarial__weight=0.5 if stage == 1 else 0.0,
        adversarial__start=1,
        losses__lpips=0.0 if stage == 3 else 1.0,
        losses__pixel_code_prediction=0.0,
    )
    parts = small.parts(config)
    key = jax.random.key(3)
    frozen = networks.load(parts.networks)
    batches = [small.batch(seed) for seed in range(STEPS)]
    with jax.default_device(jax.devices()[0]):
        start = jax.device_get(small.state(config))

    def over_mesh(model_axis: int, devices: int) -> tuple:
        mesh = jax.make_mesh(
            (devices // model_axis, model_axis),
            (sharding.DATA, sharding.MODEL),
            axis_types=(jax.sharding.AxisType.Auto,) * 2,
            devices=jax.devices()[:devices],
        )
        shardings = sharding.state_shardings(start, mesh, smallest=64)
        step = sharding.jit_step(make_train_step(parts), mesh, shardings)
        state = jax.device_put(start, shardings)
        for batch in batches:
            state, metrics = step(state, sharding.global_batch(batch, mesh), key, frozen)
        cut = sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))
        return jax.device_get((state, metrics)), cut

    def mapped() -> tuple:
        step = sharding.pmap_step(make_train_step(parts, axis_name=sharding.DATA))
        state = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (DEVICES, *np.shape(leaf))), start)
        for batch in batches:
            divided = {k: v.reshape(DEVICES, -1, *v.shape[1:]) for k, v in batch.items()}
            state, metrics = step(state, divided, key, frozen)
        return jax.device_get(jax.tree.map(lambda leaf: leaf[0], (state, metrics)))

    def begun_in_place() -> float:
        """The first state made where it belongs, with nothing moved between devices."""
        mesh = sharding.make_mesh(2, small.BATCH, 1)
        placed = sharding.place_shapes(start, mesh, 64)
        with jax.transfer_guard_device_to_device("disallow_explicit"):
            state = first_state(parts, placed)
        where = jax.tree.map(lambda leaf, to: leaf.sharding == to.sharding, state, placed)
        assert all(jax.tree.leaves(where))
        whole = jax.jit(lambda: parts.initial_state(parts.random_parameters()))()
        return small.largest_difference(jax.device_get(state), jax.device_get(whole))

    alone, _ = over_mesh(1, 1)
    model_cut, cut = over_mesh(2, DEVICES)
    report: dict = {}
    layouts = {"model": model_cut}
    if stage == 1:  # the layout does not know the stage, and compiling takes long
        layouts["pmap"] = mapped()
        layouts["data"], _ = over_mesh(1, DEVICES)
        report["begun"] = begun_in_place()
    report |= {
        "moved": small.largest_difference(alone[0].params, start.params),
        "sharded_parameters": cut,
        "states": {k: small.largest_difference(v[0], alone[0]) for k, v in layouts.items()},
        "metrics": {k: small.largest_difference(v[1], alone[1]) for k, v in layouts.items()},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]))
