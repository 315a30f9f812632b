"""One training step: (state, batch, rng, networks) -> (state, metrics), pure, for every stage.

The function knows neither meshes nor hosts. Under `jax.jit` the batch is the whole batch,
however it is sharded; under `jax.pmap` each device has its part and `axis_name` is the axis over
which gradients and metrics are averaged. Both give the same state.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from glc_jax.models.pixels import to_model_range
from glc_jax.training.critic import LAST_LAYER
from glc_jax.training.objectives import Loss, ModelLoss, Networks, PictureLoss, Seen
from glc_jax.training.parameters import Flat, replace, select
from glc_jax.training.parts import Parts
from glc_jax.training.state import TrainState

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, jax.Array, Networks], tuple[TrainState, Metrics]]

EMA_WARMUP = 10  # the average's decay at step t is at most (1 + t) / (EMA_WARMUP + t)
_JITTER = 2**31 - 1  # folded into a step's key for what all samples share; no slot's number


class Gradients(NamedTuple):
    """What one part of a batch gives; all of it is averaged over the parts."""

    generator: Flat
    discriminator: Flat | None
    batch_stats: Any
    metrics: Metrics
    code_share: Flat
    code_sums: Flat


def make_train_step(parts: Parts, axis_name: str | None = None) -> TrainStep:
    """The train step of a run.

    A batch is {"image": uint8 [B, H, W, 3], "index": int32 [B], the slot in the whole batch}, and
    the pictures of `Stage.beside`, uint8 [B, H, W, 3], by their names.
    rng is the run's key, the same for every step; networks are those of `parts.networks`. Metrics
    are float32 scalars, losses not yet multiplied by their weights ("loss" is the weighted sum of
    all but the adversarial).
    """
    critic = parts.critic(axis_name)

    def mean(tree: Any) -> Any:
        return jax.lax.pmean(tree, axis_name) if axis_name else tree

    def gradients(
        state: TrainState, trained: Flat, batch: Batch, rng: jax.Array, networks: Networks
    ) -> tuple[Gradients, Flat]:
        images = to_model_range(batch["image"])
        samples = parts.samples(state.step, rng, batch)
        shown = samples.beside

        def forward(trained: Flat) -> tuple[tuple[jax.Array, jax.Array | None], tuple]:
            variables = {"params": replace(state.params, trained)}
            out = parts.stage.forward(parts.model, variables, images, samples)
            seen = Seen(parts.model, variables, images, samples, out)
            total, values = weighted(parts.losses, ModelLoss, lambda loss: loss(seen))
            return (total, out.x_hat), (values, out)

        (total, x_hat), pull_back, (values, out) = jax.vjp(forward, trained, has_aux=True)
        metrics, pull, judged = {**values, **out.metrics}, None, None
        if x_hat is not None:
            key = jax.random.fold_in(rng, _JITTER)
            (more, values), pull = jax.value_and_grad(
                lambda x_hat: weighted(
                    parts.losses,
                    PictureLoss,
                    lambda loss: loss(x_hat, shown.get(loss.against, images), networks, key),
                ),
                has_aux=True,
            )(x_hat)
            total, metrics = total + more, {**metrics, **values}
        if critic is not None:
            judged = critic.judge(state.discriminator, state.step, x_hat, images, networks)
            zero = jnp.zeros_like(total)
            weight, values = critic.weight_of(
                pull, judged.pull, lambda pull: mean(pull_back((zero, pull))[0][LAST_LAYER])
            )
            pull = pull + weight * judged.pull
            metrics = {**metrics, **judged.values, **values}
        (generator,) = pull_back((jnp.ones_like(total), pull))
        generator = parts.codebooks.without_gradient(generator)
        found = Gradients(
            generator,
            judged and judged.gradient,
            judged and judged.batch_stats,
            {**metrics, "loss": total},
            {path: code.share for path, code in out.codes.items()},
            {path: out.codes[path].sums for path in parts.codebooks.averaged},
        )
        return found, {path: code.vectors for path, code in out.codes.items()}

    def train_step(
        state: TrainState, batch: Batch, rng: jax.Array, networks: Networks
    ) -> tuple[TrainState, Metrics]:
        chex.assert_rank(batch["image"], 4)
        chex.assert_type((batch["image"], batch["index"]), (jnp.uint8, jnp.int32))
        trained = select(state.params, parts.trainable)
        step_rng = jax.random.fold_in(rng, state.step)
        found, vectors = accumulate(
            lambda part: gradients(state, trained, part, step_rng, networks),
            batch,
            parts.accumulate,
        )
        found = mean(found)
        if axis_name:
            vectors = jax.lax.all_gather(vectors, axis_name, tiled=True)

        updates, opt_state = parts.optimiser.update(found.generator, state.opt_state, trained)
        trained = parts.codebooks.moved(
            optax.apply_updates(trained, updates),
            trained,
            state.code_use,
            found.code_share,
            found.code_sums,
        )
        decay = jnp.minimum(parts.ema, (1 + state.step) / (EMA_WARMUP + state.step))
        ema = optax.incremental_update(trained, state.ema, 1 - decay)
        kept = parts.codebooks.keep_in_use(
            state.step, trained, ema, state.code_use, found.code_share, vectors, step_rng
        )
        discriminator = state.discriminator
        if critic is not None:
            discriminator = critic.step(
                discriminator, state.step, found.discriminator, found.batch_stats
            )
        metrics = {
            **found.metrics,
            **kept.metrics,
            "gradient_norm": optax.tree.norm(found.generator),
            "learning_rate": parts.schedule(state.step),
        }
        new_state = TrainState(
            step=state.step + 1,
            params=replace(state.params, kept.trained),
            opt_state=opt_state,
            ema=kept.ema,
            code_use=kept.code_use,
            discriminator=discriminator,
        )
        return new_state, {name: jnp.float32(value) for name, value in metrics.items()}

    return train_step


def weighted(
    losses: Iterable[Loss], kind: type, value: Callable[[Any], jax.Array]
) -> tuple[jax.Array, Metrics]:
    """The weighted sum of the losses of one kind, and each one's own value by name."""
    chosen = [loss for loss in losses if isinstance(loss, kind)]
    values = {loss.name: value(loss) for loss in chosen}
    chex.assert_shape(list(values.values()), ())
    total = sum((loss.weight * values[loss.name] for loss in chosen), jnp.zeros(()))
    return total, values


def accumulate(
    function: Callable[[Batch], tuple[Any, Any]], batch: Batch, parts: int
) -> tuple[Any, Any]:
    """`function` on `parts` equal parts of a batch in turn: (averaged, in the batch's order).

    `function` returns two trees: leaves of the first are averaged over the parts, leaves of the
    second have one row a sample and come back in the order of the batch. Part i is every
    `parts`-th sample from i on, so that a sharded batch stays evenly spread over its devices.
    """
    if parts == 1:
        return function(batch)

    def split(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)

    divided = jax.tree.map(split, dict(batch))
    first = jax.tree.map(lambda x: x[0], divided)
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, first)[0]
    )

    def body(total: Any, part: Batch) -> tuple[Any, Any]:
        averaged, rows = function(part)
        return jax.tree.map(lambda a, b: a + b / parts, total, averaged), rows

    # In a loop XLA's gradients of convolutions on CPU take twenty times as long.
    total, rows = jax.lax.platform_dependent(
        zeros,
        divided,
        cpu=functools.partial(jax.lax.scan, body, unroll=True),
        default=functools.partial(jax.lax.scan, body),
    )
    rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), rows)
    return total, rows
