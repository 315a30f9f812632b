"""How fast a config's parts run, against what the machine can do, and how much memory they take."""

import dataclasses
import resource
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from glc_jax import weights
from glc_jax.errors import InputError
from glc_jax.models import glc, sizes
from glc_jax.models.pixels import to_model_range
from glc_jax.timing import fastest
from glc_jax.training import networks, sharding
from glc_jax.training.chips import chip
from glc_jax.training.parts import Parts
from glc_jax.training.programs import program_flops, program_memory
from glc_jax.training.step import make_train_step
from glc_jax.training.traffic import Sent, sent_by_a_device, traffic

PEAK_SIZE = 2048  # of the square matrices that the machine's peak is measured with
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Measured:
    """One compiled program, run a few times.

    seconds: the fastest run, None where it was only compiled. flops: of one run on each device, as
    XLA counts them. peak_share: flops / seconds over the machine's matrix-multiply peak.
    memory_bytes: what the program holds at once on each device, arguments and results included,
    by XLA's own analysis. collectives: what it sends between devices, by kind: how many, and bytes.
    """

    name: str
    seconds: float | None
    images_per_second: float | None
    megapixels_per_second: float | None
    flops: float
    peak_share: float | None
    memory_bytes: int
    collectives: Mapping[str, Sent] = dataclasses.field(default_factory=dict)


def matmul_peak(dtype: str, size: int = PEAK_SIZE) -> float:
    """Floating-point operations a second in the product of two square matrices of `dtype`."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a).lower(a).compile()
    return 2 * size**3 / fastest(lambda: product(a), REPEATS)[0]


def measure(
    name: str,
    jitted: Any,
    arguments: tuple,
    images: tuple[int, int, int],
    peak: float | None,
) -> Measured:
    """Compile what `jax.jit` gave for `arguments` and, where `peak` is given, run it.

    arguments: arrays, or shapes where it is only compiled. images: (count, height, width) of the
    pictures that one run handles.
    """
    compiled = jitted.lower(*arguments).compile()
    held, flops = program_memory(compiled), program_flops(compiled)
    collectives = traffic(compiled.as_text())
    if peak is None:
        return Measured(name, None, None, None, flops, None, held, collectives)
    seconds, _ = fastest(lambda: compiled(*arguments), REPEATS)
    count, height, width = images
    return Measured(
        name,
        seconds,
        count / seconds,
        count * height * width / 1e6 / seconds,
        flops,
        flops / seconds / peak,
        held,
        collectives,
    )


def random_values(shapes: Any, seed: int = 0) -> Any:
    """Small random arrays of the given shapes: for timing, where values do not matter."""
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jnp.asarray(rng.normal(0, 0.02, leaf.shape), leaf.dtype)

    return jax.tree.map(draw, shapes)


def measure_coding(parts: Parts, height: int, width: int, peak: float | None) -> list:
    """The float networks of encoding (E, g_a, h_a) and decoding (h_s to G) of one picture.

    Files are coded with the exact integer networks instead of h_s and the context model, and
    with a range coder; `glc compress` and `decompress` print the seconds that all of it takes.
    """
    multiple = sizes.size_multiple(parts.config.model)
    height, width = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    model, params = parts.model, _coding_parameters(parts)
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.uint8)
    rate = jax.ShapeDtypeStruct((1,), jnp.float32)

    def encode(params: Any, image: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        variables = {"params": params}
        latent = model.apply(variables, to_model_range(image), method="encode")
        return model.apply(variables, latent, rate, method="targets")

    def decode(params: Any, targets: dict[str, jax.Array], rate: jax.Array) -> jax.Array:
        def run(model: glc.GLC, targets: dict[str, jax.Array], rate: jax.Array) -> jax.Array:
            coded = model.entropy_model().code(model, targets)
            return model.generate(model.synthesis(coded["y"].values, rate))

        return model.apply({"params": params}, targets, rate, method=run)

    targets = jax.eval_shape(encode, params, image, rate)
    if peak is not None:
        params, image, rate, targets = random_values((params, image, rate, targets))
    images = (1, height, width)
    return [
        measure("encode", jax.jit(encode), (params, image, rate), images, peak),
        measure("decode", jax.jit(decode), (params, targets, rate), images, peak),
    ]


def _coding_parameters(parts: Parts) -> Any:
    """Shapes of the parameters that coding needs."""
    params = parts.abstract_parameters
    return {name: part for name, part in params.items() if not name.endswith("code_predictor")}


def topology(name: str) -> list:
    """The devices of a TPU topology such as "v5e:2x2", which need not be at hand.

    Programs can be compiled for them, not run. Where a chip has two cores (v4, v5p), they are one
    device, as on such a machine. Needs the package libtpu (`pip install libtpu`). Raises
    `InputError` where it is missing or knows no such topology.
    """
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=name)
        if any(device.core_on_chip for device in described.devices):
            described = topologies.get_topology_desc(
                platform="tpu", topology_name=name, chip_config_name="megacore"
            )
        return list(described.devices)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{name}: no TPU topology to compile for, or libtpu is not installed: {reason}"
        ) from None


def measure_training(parts: Parts, peak: float | None, devices: list | None = None) -> Measured:
    """A train step of the config's stage, crop, batch, precision and accumulation.

    With `devices`, of `topology` say, the step is laid over their mesh, as a run does it, and only
    compiled.
    """
    config = parts.config
    crop, batch = config.data.crop, config.batch
    frozen, state = networks.load(parts.networks), parts.abstract_state()
    pictures = {
        "image": jax.ShapeDtypeStruct((batch, crop, crop, 3), jnp.uint8),
        "index": jax.ShapeDtypeStruct((batch,), jnp.int32),
    }
    key: Any = jax.eval_shape(lambda: jax.random.key(0))
    if peak is not None:
        state, pictures = random_values((state, pictures))
        key = jax.random.key(0)
        pictures["index"] = jnp.arange(batch, dtype=jnp.int32)
    step = make_train_step(parts)
    if devices is not None:
        mesh = sharding.make_mesh(config.mesh.model, batch, config.accumulate, devices)
        shardings = sharding.state_shardings(state, mesh, config.mesh.shard_from)
        jitted = sharding.jit_step(step, mesh, shardings)
    else:
        # A run donates the state; a timed program is called again with the same one.
        jitted = jax.jit(step, donate_argnums=(0,) if peak is None else ())
    name, images = f"train {config.stage}", (batch, crop, crop)
    return measure(name, jitted, (state, pictures, key, frozen), images, peak)


def allowed(measured: Measured, kind: str, devices: int) -> tuple[float, float] | None:
    """Seconds of a step that chips of this kind allow: computing at their peak, and sending.

    None where the figures of the chip are not known (`chips`).
    """
    known = chip(kind)
    if known is None:
        return None
    sent = sent_by_a_device(measured.collectives, devices)
    return measured.flops / known.flops, sent / known.link


def parameter_count(parts: Parts) -> int:
    """Values in the model's parameters."""
    return sum(leaf.size for _, leaf in weights.flatten(parts.abstract_parameters))


def peak_memory() -> int:
    """The most bytes held so far: of the device where it tells, otherwise of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
