"""Program: python -m tests.training.layouts STAGE, with eight virtual devices.

Takes three steps of a stage on one device with the whole batch, under jit over a mesh (4, 2) with
sharded parameters, under pmap and, in stage 1, over a mesh (8, 1), and prints as JSON how far the
states are from the first one's.
"""

import json
import sys

import jax
import numpy as np

from glc_jax.training import setup, sharding
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
    model = setup.build_model(config)
    key = jax.random.key(3)
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
        step = sharding.jit_step(make_train_step(model, config), mesh, shardings)
        state = jax.device_put(start, shardings)
        for batch in batches:
            state, metrics = step(state, sharding.global_batch(batch, mesh), key)
        cut = sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))
        return jax.device_get((state, metrics)), cut

    def mapped() -> tuple:
        step = sharding.pmap_step(make_train_step(model, config, axis_name=sharding.DATA))
        state = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (DEVICES, *np.shape(leaf))), start)
        for batch in batches:
            divided = {k: v.reshape(DEVICES, -1, *v.shape[1:]) for k, v in batch.items()}
            state, metrics = step(state, divided, key)
        return jax.device_get(jax.tree.map(lambda leaf: leaf[0], (state, metrics)))

    alone, _ = over_mesh(1, 1)
    model_cut, cut = over_mesh(2, DEVICES)
    layouts = {"model": model_cut, "pmap": mapped()}
    if stage == 1:  # the layout does not know the stage, and compiling takes long
        layouts["data"], _ = over_mesh(1, DEVICES)
    report = {
        "moved": small.largest_difference(alone[0].params, start.params),
        "sharded_parameters": cut,
        "states": {k: small.largest_difference(v[0], alone[0]) for k, v in layouts.items()},
        "metrics": {k: small.largest_difference(v[1], alone[1]) for k, v in layouts.items()},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]))
