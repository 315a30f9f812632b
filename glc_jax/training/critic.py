"""The discriminator in training: its pull on a reconstruction, and its own step."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from glc_jax.errors import ConfigError
from glc_jax.losses import adversarial, style
from glc_jax.metrics.features import vgg16
from glc_jax.models.discriminator import FeatureDiscriminator, PatchDiscriminator
from glc_jax.training.config import Adversarial, Config
from glc_jax.training.objectives import Networks
from glc_jax.training.optimiser import optimiser
from glc_jax.training.parameters import Flat, replace, select
from glc_jax.training.state import DiscriminatorState

# Where the pull of the pixel losses and of the adversarial loss is compared.
LAST_LAYER = "vqvae/generator/conv_out/kernel"


class Judgement(NamedTuple):
    """What the critic makes of a batch.

    pull: the gradient of the generator's loss at x_hat. gradient, batch_stats: its own. values:
    both losses by name.
    """

    pull: jax.Array
    gradient: Flat
    batch_stats: Any
    values: dict[str, jax.Array]


class Sight(NamedTuple):
    """What a discriminator sees of pictures.

    networks: names of the frozen networks that it takes. see: (these, pictures [B, H, W, 3]) -> its
    input. blank: the input's zeros for one picture of so many pixels a side.
    """

    networks: tuple[str, ...]
    see: Callable[[Networks, jax.Array], Any]
    blank: Callable[[int], Any]


FEATURE_LEVELS = 4
"""relu1_2, relu2_2, relu3_3 and relu4_3."""


def _features(networks: Networks, pictures: jax.Array) -> list[jax.Array]:
    return style.features(networks["lpips_vgg"], pictures)[:FEATURE_LEVELS]


def _no_features(side: int) -> list[jax.Array]:
    channels = enumerate(vgg16.CHANNELS[:FEATURE_LEVELS])
    return [jnp.zeros((1, side >> level, side >> level, count)) for level, count in channels]


PICTURES = Sight(
    (), lambda networks, pictures: pictures, lambda side: jnp.zeros((1, side, side, 3))
)
FEATURES = Sight(("lpips_vgg",), _features, _no_features)


@dataclasses.dataclass(frozen=True)
class Critic:
    """A discriminator, what it sees, its loss's weight and its optimiser.

    Before step `start` it stands still, counts no step and pulls at nothing.
    """

    network: PatchDiscriminator | FeatureDiscriminator
    sight: Sight
    weight: float
    start: int
    adaptive: bool
    optimiser: optax.GradientTransformation

    def init(self, key: jax.Array, crop: int) -> DiscriminatorState:
        """Its state before the first step, for pictures of `crop` pixels a side."""
        variables = self.network.init(key, self.sight.blank(crop), True)
        flat, averages = select(variables["params"], ""), variables.get("batch_stats", {})
        return DiscriminatorState(flat, averages, self.optimiser.init(flat))

    def judge(
        self,
        state: DiscriminatorState,
        step: jax.Array,
        x_hat: jax.Array,
        images: jax.Array,
        networks: Networks,
    ) -> Judgement:
        """The judgement of step `step`; all zeros, with the averages as they were, before start.

        networks: those of `sight` among them.
        """

        def active(_: None) -> Judgement:
            return self._judge(state, x_hat, images, networks)

        def standing(_: None) -> Judgement:
            zeros = jax.tree.map(
                lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(active, None)
            )
            return zeros._replace(batch_stats=state.batch_stats)

        started = step >= self.start

        def either() -> Judgement:
            return jax.lax.cond(started, active, standing, None)

        def chosen() -> Judgement:
            return jax.tree.map(
                lambda new, old: jnp.where(started, new, old), active(None), standing(None)
            )

        # XLA's gradients of convolutions on CPU take twenty times as long inside a branch.
        return jax.lax.platform_dependent(cpu=chosen, default=either)

    def _judge(
        self,
        state: DiscriminatorState,
        x_hat: jax.Array,
        images: jax.Array,
        networks: Networks,
    ) -> Judgement:
        def logits_of(params: Flat, stats: Any, pictures: jax.Array) -> tuple[Any, Any]:
            variables = {"params": replace({}, params), "batch_stats": stats}
            seen = self.sight.see(networks, pictures.astype(self.network.dtype))
            logits, updates = self.network.apply(variables, seen, True, mutable=["batch_stats"])
            return logits, updates.get("batch_stats", {})

        def generator_loss(x_hat: jax.Array) -> jax.Array:
            logits, _ = logits_of(state.params, state.batch_stats, x_hat)
            return jnp.mean(adversarial.generator_hinge(logits))

        def critic_loss(params: Flat) -> tuple[jax.Array, Any]:
            real, stats = logits_of(params, state.batch_stats, images)
            fake, stats = logits_of(params, stats, jax.lax.stop_gradient(x_hat))
            return adversarial.discriminator_hinge(real, fake), stats

        generator_value, pull = jax.value_and_grad(generator_loss)(x_hat)
        (critic_value, stats), gradient = jax.value_and_grad(critic_loss, has_aux=True)(
            state.params
        )
        values = {"adversarial": generator_value, "discriminator": critic_value}
        return Judgement(pull, gradient, stats, values)

    def weight_of(
        self, pull: jax.Array, own: jax.Array, at_last_layer: Callable[[jax.Array], jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What the critic's pull `own` is multiplied by beside the pixel losses' `pull`; metrics.

        at_last_layer: from a gradient at x_hat to that of `LAST_LAYER`, averaged over devices.
        """
        if not self.adaptive:
            return jnp.float32(self.weight), {}
        # Only the last layer's gradient is used, so that XLA drops the rest of each pull.
        adaptive = adversarial.adaptive_weight(at_last_layer(pull), at_last_layer(own))
        return self.weight * adaptive, {"adaptive_weight": adaptive}

    def step(
        self, state: DiscriminatorState, step: jax.Array, gradient: Flat, batch_stats: Any
    ) -> DiscriminatorState:
        """Its state after step `step`."""
        updates, opt_state = self.optimiser.update(gradient, state.opt_state, state.params)
        updated = DiscriminatorState(
            optax.apply_updates(state.params, updates), batch_stats, opt_state
        )
        active = step >= self.start
        return jax.tree.map(lambda new, old: jnp.where(active, new, old), updated, state)


def critic(config: Config, axis_name: str | None = None) -> Critic | None:
    """The config's critic; None where the adversarial loss is off.

    Its schedule spans the steps from `adversarial.start` to the end of the run. Raises
    `ConfigError` where it would never start, its warm-up and tail are longer than what is left, or
    there is no such discriminator.
    """
    fields = config.adversarial
    if not fields.weight:
        return None
    if fields.start >= config.steps:
        raise ConfigError(
            f"adversarial.start is {fields.start}, but the run ends after {config.steps} steps; "
            "start earlier or set adversarial.weight=0."
        )
    network, sight = _network(fields, jnp.dtype(config.dtype).type, axis_name)
    steps = config.steps - max(fields.start, 0)
    return Critic(
        network,
        sight,
        fields.weight,
        fields.start,
        fields.adaptive,
        optimiser(fields.optimizer, steps),
    )


def _network(fields: Adversarial, dtype: type, axis_name: str | None) -> tuple[Any, Sight]:
    channels = fields.base_channels
    if fields.network == "patches":
        made = PatchDiscriminator(channels, fields.layers, axis_name=axis_name, dtype=dtype)
        return made, PICTURES
    if fields.network == "features":
        return FeatureDiscriminator(channels, dtype), FEATURES
    raise ConfigError(f"adversarial.network is {fields.network!r}: patches or features.")
