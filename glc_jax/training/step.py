"""One training step: a pure function (state, batch, rng) -> (state, metrics), for every stage.

The function knows neither meshes nor hosts. Under `jax.jit` the batch is the whole batch,
however it is sharded; under `jax.pmap` each device has its part and `axis_name` is the axis over
which gradients and metrics are averaged. Both give the same state.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from glc_jax.losses import adversarial, perceptual, pixel, spectrum
from glc_jax.models.discriminator import PatchDiscriminator
from glc_jax.models.glc import GLC
from glc_jax.training.codebook import perplexity, revive
from glc_jax.training.optimiser import learning_rate, optimiser
from glc_jax.training.parameters import Flat, replace, select
from glc_jax.training.stages import STAGES, codebooks, draw_samples
from glc_jax.training.state import DiscriminatorState, TrainState

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]

# Where the pull of the pixel losses and of the adversarial loss is compared.
LAST_LAYER = "vqvae/generator/conv_out/kernel"

EMA_WARMUP = 10  # the average's decay at step t is at most (1 + t) / (EMA_WARMUP + t)


class Gradients(NamedTuple):
    """What one part of a batch gives; everything but `codes` is averaged over the parts."""

    generator: Flat
    discriminator: Flat | None
    batch_stats: Any
    metrics: Metrics
    code_share: Flat


def to_float(images: jax.Array) -> jax.Array:
    """uint8 pictures as the model sees them: float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def discriminator(config: Mapping[str, Any], dtype: Any, axis_name: str | None = None):
    """The config's discriminator, or None where the adversarial loss is off."""
    fields = config["adversarial"]
    if not fields["weight"]:
        return None
    return PatchDiscriminator(
        base_channels=fields["base_channels"],
        layers=fields["layers"],
        axis_name=axis_name,
        dtype=dtype,
    )


def make_train_step(
    model: GLC, config: Mapping[str, Any], axis_name: str | None = None
) -> TrainStep:
    """The train step of `config["stage"]`.

    A batch is {"image": uint8 [B, H, W, 3], "index": int32 [B], the slot in the whole batch}.
    rng is the run's key, the same for every step. Metrics are float32 scalars, losses not yet
    multiplied by their weights ("loss" is the weighted sum).
    """
    forward = STAGES[config["stage"]]
    weights = dict(config["losses"])
    critic = discriminator(config, model.vqvae.encoder.dtype, axis_name)
    adversarial_config = config["adversarial"]
    generator_optimiser = optimiser(config["optimizer"], config["steps"])
    rate_of_learning = learning_rate(config["optimizer"], config["steps"])
    critic_optimiser = (
        optimiser(adversarial_config["optimizer"], config["steps"]) if critic else None
    )

    def mean(tree: Any) -> Any:
        return jax.lax.pmean(tree, axis_name) if axis_name else tree

    def pixel_losses(
        x_hat: jax.Array, images: jax.Array, networks: Any
    ) -> tuple[jax.Array, Metrics]:
        losses = {}
        if weights["l1"]:
            losses["l1"] = jnp.mean(pixel.l1(x_hat, images))
        if weights["multiscale_l1"]:
            losses["multiscale_l1"] = jnp.mean(multiscale_l1(x_hat, images))
        if weights["lpips"]:
            dtype = model.vqvae.encoder.dtype or jnp.float32
            losses["lpips"] = jnp.mean(
                perceptual.lpips(networks["lpips"], x_hat.astype(dtype), images.astype(dtype))
            )
        if weights["dists"]:  # in float32, for the sake of its variances
            losses["dists"] = jnp.mean(
                perceptual.dists(
                    networks["dists"], x_hat, images, config["dists_window"], config["dists_group"]
                )
            )
        if weights["spectral_excess"]:
            losses["spectral_excess"] = jnp.mean(spectrum.spectral_excess(x_hat, images))
        return weighted(losses), losses

    def weighted(losses: Metrics) -> jax.Array:
        return sum((weights[name] * value for name, value in losses.items()), jnp.zeros(()))

    def logits_of(params: Flat, stats: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": replace({}, params), "batch_stats": stats}
        logits, updates = critic.apply(variables, images, True, mutable=["batch_stats"])
        return logits, updates["batch_stats"]

    def adversarial_part(
        critic_state: DiscriminatorState, x_hat: jax.Array, images: jax.Array
    ) -> tuple[jax.Array, Flat, Any, Metrics]:
        """Gradient of the generator's loss at x_hat, the critic's gradients and averages."""

        def generator_loss(x_hat):
            logits, _ = logits_of(critic_state.params, critic_state.batch_stats, x_hat)
            return jnp.mean(adversarial.generator_hinge(logits))

        def critic_loss(params):
            real, stats = logits_of(params, critic_state.batch_stats, images)
            fake, stats = logits_of(params, stats, jax.lax.stop_gradient(x_hat))
            return adversarial.discriminator_hinge(real, fake), stats

        generator_value, pull = jax.value_and_grad(generator_loss)(x_hat)
        (critic_value, stats), gradient = jax.value_and_grad(critic_loss, has_aux=True)(
            critic_state.params
        )
        metrics = {"adversarial": generator_value, "discriminator": critic_value}
        return pull, gradient, stats, metrics

    def gradients(
        state: TrainState, trained: Flat, batch: Batch, rng: jax.Array
    ) -> tuple[Gradients, dict[str, jax.Array]]:
        images = to_float(batch["image"])
        samples = draw_samples(config, state.step, rng, batch["index"])

        def objective(trained: Flat):
            variables = {"params": replace(state.params, trained)}
            out = forward(model, variables, config, images, samples)
            return (weighted(out.losses), out.x_hat), (out.losses, out.metrics, out.codes)

        (total, x_hat), pull_back, (losses, metrics, codes) = jax.vjp(
            objective, trained, has_aux=True
        )
        pull, critic_gradient, stats = None, None, None
        if x_hat is not None:
            (pixel_total, pixel_values), pull = jax.value_and_grad(pixel_losses, has_aux=True)(
                x_hat, images, state.perceptual
            )
            total, losses = total + pixel_total, {**losses, **pixel_values}
        if critic is not None:
            active = state.step >= adversarial_config["start"]

            def running(_):
                return adversarial_part(state.discriminator, x_hat, images)

            shapes = jax.eval_shape(running, None)
            (critic_pull, critic_gradient, stats, values) = jax.lax.cond(
                active,
                running,
                lambda _: (
                    *jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[:2]),
                    state.discriminator.batch_stats,
                    jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[3]),
                ),
                None,
            )
            weight = jnp.float32(adversarial_config["weight"])
            if adversarial_config["adaptive"]:
                # Only the last layer's gradient is used, so that XLA drops the rest of each pull.
                zero = jnp.zeros_like(total)
                at_last = [mean(pull_back((zero, p))[0][LAST_LAYER]) for p in (pull, critic_pull)]
                adaptive = adversarial.adaptive_weight(*at_last)
                metrics = {**metrics, "adaptive_weight": adaptive}
                weight = weight * adaptive
            pull = pull + weight * critic_pull
            losses = {**losses, **values}
        (generator_gradient,) = pull_back((jnp.ones_like(total), pull))
        metrics = {**losses, **metrics, "loss": total}
        shares = {path: code.share for path, code in codes.items()}
        vectors = {path: code.vectors for path, code in codes.items()}
        out = Gradients(generator_gradient, critic_gradient, stats, metrics, shares)
        return out, vectors

    def train_step(state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        trained = select(state.params, config["trainable"])
        step_rng = jax.random.fold_in(rng, state.step)
        averaged, vectors = accumulate(
            lambda part: gradients(state, trained, part, step_rng), batch, config["accumulate"]
        )
        averaged = mean(averaged)
        if axis_name:
            vectors = jax.lax.all_gather(vectors, axis_name, tiled=True)

        updates, opt_state = generator_optimiser.update(
            averaged.generator, state.opt_state, trained
        )
        trained = optax.apply_updates(trained, updates)
        decay = jnp.minimum(config["ema"], (1 + state.step) / (EMA_WARMUP + state.step))
        ema = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.ema, trained)

        metrics = {
            **averaged.metrics,
            "gradient_norm": _norm(averaged.generator),
            "learning_rate": rate_of_learning(state.step),
        }
        trained, ema, code_use = _keep_codebooks_in_use(
            config, state, trained, ema, averaged.code_share, vectors, step_rng, metrics
        )
        critic_state = state.discriminator
        if critic is not None:
            critic_updates, critic_opt_state = critic_optimiser.update(
                averaged.discriminator, critic_state.opt_state, critic_state.params
            )
            updated = DiscriminatorState(
                params=optax.apply_updates(critic_state.params, critic_updates),
                batch_stats=averaged.batch_stats,
                opt_state=critic_opt_state,
            )
            active = state.step >= adversarial_config["start"]
            critic_state = jax.tree.map(
                lambda new, old: jnp.where(active, new, old), updated, critic_state
            )
        metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
        new_state = state.replace(
            step=state.step + 1,
            params=replace(state.params, trained),
            opt_state=opt_state,
            ema=ema,
            code_use=code_use,
            discriminator=critic_state,
        )
        return new_state, metrics

    return train_step


def multiscale_l1(x: jax.Array, y: jax.Array, scales: int = 3) -> jax.Array:
    """L1 of the pictures at 1/2, 1/4 and 1/8 of their size, averaged: [B, H, W, 3] -> [B]."""
    total = jnp.zeros(x.shape[0], jnp.float32)
    for _ in range(scales):
        x, y = _halved(x), _halved(y)
        total = total + pixel.l1(x, y)
    return total / scales


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def _halved(x: jax.Array) -> jax.Array:
    """Means of 2x2 pixels: [B, H, W, C] -> [B, H/2, W/2, C]."""
    b, h, w, c = x.shape
    return jnp.mean(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=(2, 4))


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

    total, rows = jax.lax.scan(body, zeros, divided)
    rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), rows)
    return total, rows


def _keep_codebooks_in_use(
    config: Mapping[str, Any],
    state: TrainState,
    trained: Flat,
    ema: Flat,
    shares: Flat,
    vectors: dict[str, jax.Array],
    rng: jax.Array,
    metrics: Metrics,
) -> tuple[Flat, Flat, Flat]:
    """Follow each codebook's use, and revive dead codes every `codebook.revive_every` steps.

    Returns trained, ema and code_use; adds to `metrics` the share of codes in use and their
    perplexity, by the running share.
    """
    fields = config["codebook"]
    trained, ema, uses = dict(trained), dict(ema), {}
    due = (state.step + 1) % max(fields["revive_every"], 1) == 0
    due &= fields["revive_every"] > 0
    for number, path in enumerate(codebooks(config["stage"])):
        use = fields["decay"] * state.code_use[path] + (1 - fields["decay"]) * shares[path]
        name = path.split("/")[0]
        metrics[f"codes/{name}/perplexity"] = perplexity(use)
        metrics[f"codes/{name}/alive"] = jnp.mean(use * use.size > fields["dead_below"])
        if path in trained:
            flat = vectors[path].reshape(-1, vectors[path].shape[-1])
            key = jax.random.fold_in(rng, number)
            revived, fresh_use, dead = revive(trained[path], use, flat, fields["dead_below"], key)
            dead = dead & due
            trained[path] = jnp.where(dead[:, None], revived, trained[path])
            ema[path] = jnp.where(dead[:, None], revived, ema[path])
            use = jnp.where(dead, fresh_use, use)
        uses[path] = use
    return trained, ema, uses
