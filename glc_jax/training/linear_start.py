"""A VQ-VAE that starts as the best linear autoencoder of its shape, found without gradients.

From random weights a small VQ-VAE spends most of its training on learning to carry colours and
coarse shapes past its normalisations. They can be had at once: where residual and attention
branches are near zero, E and G are chains of convolutions. E's become a wavelet-like pyramid, in
which each level keeps the principal components of its 2x2 blocks; G's are fitted to undo it, level
by level, by least squares.

The chains pass GroupNorm and swish only at their ends. There each component c travels as the pair
(c, -c), since swish(c) - swish(-c) = c, beside constant channels that outweigh the components, so
that the norm divides every picture by nearly the same number.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from glc_jax.errors import ConfigError

# Rows: brightness and two colour differences (ITU-R BT.601), of unit length.
_COLOURS = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
COLOURS = _COLOURS / np.linalg.norm(_COLOURS, axis=1, keepdims=True)

CONSTANT_ENERGY = 9.0  # of the constant channels, for each unit of the components'
REMAINDER = 0.1  # what is left of the other weights on the path, so that no channel is dead
BRANCHES = 0.3  # likewise of the last layer of each residual and attention branch
RIDGE = 1e-4  # of the mean square of the regressors
CHUNK = 16  # pictures at a time


def linear_start(
    config: Mapping[str, Any], params: Mapping[str, Any], images: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """The parameters of E, G and the codebook with the linear autoencoder written into them.

    Args:
      config: the model's, with its fields "vqvae" and "latent_channels".
      params: random parameters of the "vqvae" part; not changed.
      images: uint8 [N, H, W, 3], H and W multiples of E's downsampling; a few hundred crops do.
      seed: of the noise on weights that would otherwise be zero.

    Raises:
      ConfigError: the model has more than one norm group, or too few channels.
    """
    check(config)
    fields, latent = config["vqvae"], config["latent_channels"]
    params = _writable(params)
    encoder, generator = params["encoder"], params["generator"]
    rng = np.random.default_rng(seed)
    for part in (encoder, generator):
        for name, module in part.items():
            if "block" in name:
                module["conv_2"]["kernel"] *= BRANCHES
            elif "attention" in name:
                module["out"]["kernel"] *= BRANCHES
    colours = (images.astype(np.float32) / np.float32(127.5) - 1) @ COLOURS.T.astype(np.float32)
    pyramid = _write_pyramid(encoder, colours, len(fields["multipliers"]))
    coded = _write_latent(encoder, pyramid[-1], latent, rng)
    _write_generator(generator, coded, pyramid[:-1], rng)
    return params


def check(config: Mapping[str, Any]) -> None:
    """Raises ConfigError where `linear_start` cannot be had for a model."""
    fields = config["vqvae"]
    if fields["norm_groups"] != 1:
        raise ConfigError("A linear start needs model.vqvae.norm_groups=1.")
    widths = [fields["base_channels"] * m for m in fields["multipliers"]]
    latent = config["latent_channels"]
    if widths[-1] == widths[-2]:
        raise ConfigError("A linear start needs more channels in the last level than before it.")
    if widths[0] == widths[1]:
        raise ConfigError("A linear start needs fewer channels in the first level than after it.")
    if widths[-1] < 2 * latent + 2 or widths[0] < 8:
        raise ConfigError(
            f"A linear start needs at least {2 * latent + 2} channels in the last level, twice "
            f"the latent's and 2, and 8 in the first; this model has {widths[-1]} and {widths[0]}."
        )


def _write_pyramid(encoder: dict, colours: np.ndarray, levels: int) -> list[np.ndarray]:
    """E up to the last level's shortcut; gives each level's components, [N, h, w, n]."""
    _fade(encoder["conv_in"])
    encoder["conv_in"]["kernel"][1, 1, :, :3] = COLOURS.T
    pyramid = [colours]
    for level in range(levels - 1):
        blocks = _blocks_2x2(pyramid[-1])
        down = encoder[f"down_{level}"]["conv"]
        _fade(down)
        channels, count = pyramid[-1].shape[-1], min(blocks.shape[-1], down["kernel"].shape[-1])
        basis = _principal(blocks)[0][:, :count]
        down["kernel"][:2, :2, :channels, :count] = basis.reshape(2, 2, channels, count)
        pyramid.append(blocks @ basis)
        if level < levels - 2:
            _pass_through(encoder.get(f"level_{level + 1}_block_0", {}), count)
    return pyramid


def _write_latent(
    encoder: dict, components: np.ndarray, latent: int, rng: np.random.Generator
) -> np.ndarray:
    """E's last level and its end; gives the latents, of mean square 1.

    A latent's variance goes with the square root of its component's: a spectrum half as steep.
    """
    last = max(int(name.split("_")[1]) for name in encoder if name.startswith("level_"))
    block = encoder[f"level_{last}_block_0"]
    basis, energy = _principal(components)
    basis, energy = basis[:, :latent], energy[:latent]
    scale = energy.mean() ** -0.5
    given, width = block["shortcut"]["kernel"].shape
    kernel, bias = np.zeros((given, width)), np.zeros(width)
    count = components.shape[-1]
    kernel[:count, :latent], kernel[:count, latent : 2 * latent] = basis * scale, -basis * scale
    std = _constants(bias, 2 * latent, energy=2.0 * latent)
    block["shortcut"]["kernel"][:] = kernel + 0.03 * REMAINDER * rng.normal(size=kernel.shape)
    block["shortcut"]["bias"][:] = bias

    deviation = scale * np.sqrt(energy)
    weight = deviation**-0.5
    weight /= np.sqrt(np.mean((deviation * weight) ** 2))
    out = encoder["conv_out"]
    _fade(out, 0.1 * REMAINDER)
    channels = np.arange(latent)
    out["kernel"][1, 1, channels, channels] += std * weight
    out["kernel"][1, 1, latent + channels, channels] -= std * weight
    _identity(encoder.get("latent_conv"))
    return components @ (basis * scale * weight)


def _write_generator(
    generator: dict, coded: np.ndarray, pyramid: list[np.ndarray], rng: np.random.Generator
) -> None:
    """G: back up the pyramid, then to colours."""
    _identity(generator.get("latent_conv"))
    latent = coded.shape[-1]
    _fade(generator["conv_in"], 0.3 * REMAINDER)
    generator["conv_in"]["kernel"][1, 1, :, :latent] = np.eye(latent)
    shown = coded
    for level in reversed(range(len(pyramid))):
        target = pyramid[level]
        given, count = shown.shape[-1], target.shape[-1]
        weight, bias = _regress(shown, target)
        up = generator[f"up_{level + 1}"]["conv"]
        _fade(up)
        up["kernel"][:, :, :given, :count] = weight.reshape(3, 3, given, count)
        up["bias"][:count] = bias
        shown = np.concatenate([part @ weight + bias for part in _neighbourhoods(shown)])
        shown = shown.reshape(target.shape).astype(np.float32)
        if level:
            _pass_through(generator[f"level_{level}_block_0"], count)

    block = generator["level_0_block_0"]
    kernel, bias = block["shortcut"]["kernel"], block["shortcut"]["bias"]
    kernel[:] = 0.1 * REMAINDER**2 * rng.normal(size=kernel.shape)
    kernel[range(3), range(3)], kernel[range(3), range(3, 6)] = 1, -1
    bias[:] = 0
    std = _constants(bias, 6, energy=2 * float(np.mean(np.sum(shown**2, axis=-1))))
    out = generator["conv_out"]
    _fade(out)
    to_rgb = np.linalg.inv(COLOURS.T) * std
    out["kernel"][1, 1, :3] += to_rgb
    out["kernel"][1, 1, 3:6] -= to_rgb


def _constants(bias: np.ndarray, start: int, energy: float) -> float:
    """Writes channels of constant, alternating values from `start` on.

    energy: sum of squares over the channels before. Returns the standard deviation over all.
    """
    count = (len(bias) - start) // 2 * 2
    value = np.sqrt(CONSTANT_ENERGY * energy / count)
    bias[start : start + count] = np.where(np.arange(count) % 2, -value, value)
    return float(np.sqrt((1 + CONSTANT_ENERGY) * energy / len(bias)))


def _principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes (columns, by falling energy) of vectors [..., C], and their mean squares."""
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64)
    energy, axes = np.linalg.eigh(flat.T @ flat / len(flat))
    return axes[:, ::-1], np.maximum(energy[::-1], 1e-12)


def _regress(inputs: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of target [N, 2h, 2w, n] on the 3x3 neighbourhoods of doubled inputs.

    Returns the weights [9 C, n] and the bias [n].
    """
    rows = 9 * inputs.shape[-1] + 1
    square, product = np.zeros((rows, rows)), np.zeros((rows, target.shape[-1]))
    wanted = (target[i : i + CHUNK] for i in range(0, len(target), CHUNK))
    for part, goal in zip(_neighbourhoods(inputs), wanted, strict=True):
        x = np.concatenate([part, np.ones((len(part), 1))], axis=1).astype(np.float64)
        square += x.T @ x
        product += x.T @ goal.reshape(-1, goal.shape[-1])
    square += RIDGE * np.trace(square) / rows * np.eye(rows)
    solution = np.linalg.solve(square, product)
    return solution[:-1], solution[-1]


def _neighbourhoods(x: np.ndarray) -> Iterator[np.ndarray]:
    """[N, h, w, C] -> chunks [n * 2h * 2w, 9 C]: what each output of G's `Upsample` sees."""
    for start in range(0, len(x), CHUNK):
        doubled = x[start : start + CHUNK].repeat(2, axis=1).repeat(2, axis=2)
        padded = np.pad(doubled, ((0, 0), (1, 1), (1, 1), (0, 0)))
        h, w = doubled.shape[1:3]
        taps = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
        yield np.concatenate(taps, axis=-1).reshape(-1, 9 * x.shape[-1])


def _blocks_2x2(x: np.ndarray) -> np.ndarray:
    """[N, H, W, C] -> [N, H/2, W/2, 4C], the block's rows, then columns, then channels."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // 2, w // 2, 4 * c)


def _fade(layer: dict, share: float = REMAINDER) -> None:
    layer["kernel"] *= share
    layer["bias"] *= 0


def _pass_through(block: dict, count: int) -> None:
    """Lets the first `count` channels past a residual block whose width changes."""
    if "shortcut" in block:
        _fade(block["shortcut"])
        block["shortcut"]["kernel"][:count, :count] = np.eye(count)


def _identity(layer: dict | None) -> None:
    if layer is not None:
        layer["kernel"][:] = np.eye(len(layer["kernel"]))
        layer["bias"] *= 0


def _writable(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _writable(part) for name, part in tree.items()}
    return np.array(tree, np.float32)
