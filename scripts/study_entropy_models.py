"""What each choice of entropy model is worth, on the packaged model's own latents.

    python scripts/study_entropy_models.py PHOTOS HELD_OUT -o study.json --steps 300 --seeds 3
    python scripts/study_entropy_models.py --page study.json

The latents l of the packaged model are computed once for every photograph's centre and kept beside
the results. E, G, g_a and g_s stay as they are. h_a, h_s and the codebook begin as the packaged
model's where the choice has them; what gives the parameters (fusion, context, z's prior) begins
anew for every choice, GLC's own among them. All are trained for the same number of steps of stage
II's loss, lambda x bits per pixel + the squared error of l_hat, and then the held-out photographs
are coded to real files at every rate point and read again.

A choice also moves the quantisation steps, so bytes alone say little: choices are compared by the
average difference in bytes at equal error of l_hat (Bjontegaard's measure over the rate points).
`--seeds 3` repeats the choices of `--repeat`; how far those differ is the noise. The second form
writes the table and the plot into docs/entropy_models.md.
"""

import argparse
import functools
import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import bitstream, weights
from glc_jax.data.augment import centre_crop
from glc_jax.data.sources import FolderSource
from glc_jax.entropy import export, quantize
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.errors import GLCError, InputError
from glc_jax.metrics.bd_rate import bd_rate
from glc_jax.models import glc, sizes
from glc_jax.models.pixels import to_model_range
from glc_jax.training.config import Optimizer
from glc_jax.training.optimiser import optimiser

TRAINED = ("hyperprior/", "context/", "z_prior/")
ANEW = ("hyperprior/fusion/", "context/", "z_prior/")
LAMBDAS = np.float32([10.0, 4.8, 2.5, 1.2])  # of each rate point, per bpp, as in configs/tiny.py
CROP = 512  # pixels a side of what is taken of each photograph
BATCH, SIDE = 4, 8  # crops a step, and the positions of l on a side of each

CHOICES: dict[str, dict[str, Any]] = {
    "GLC": {},
    "context: none": {"context": "none"},
    "context: checkerboard": {"context": "checkerboard"},
    "context: channel_groups": {"context": "channel_groups"},
    "context: space_channel": {"context": "space_channel"},
    "distribution: laplace": {"distribution": "laplace"},
    "distribution: logistic": {"distribution": "logistic"},
    "distribution: student_t": {"distribution": "student_t"},
    "distribution: generalised_gaussian": {"distribution": "generalised_gaussian"},
    "distribution: gaussian_mixture": {"distribution": "gaussian_mixture"},
    "z_prior: autoregressive": {"z_prior": "autoregressive"},
    "hyperprior: fsq": {"hyperprior": "fsq"},
    "hyperprior: factorised": {"hyperprior": "factorised"},
}


def latents_of(folder: str, file: weights.Weights, cache: pathlib.Path) -> np.ndarray:
    """l of the centres of the photographs that are large enough: float32 [N, h, w, C]."""
    source = FolderSource(folder)
    names = json.dumps([source.name(i) for i in range(len(source))])
    key = hashlib.sha256(f"{names} {CROP} {file.digest}".encode()).hexdigest()[:16]
    kept = cache / f"latents_{key}.npy"
    if kept.is_file():
        return np.load(kept)
    model, variables = _published(file)
    encode = jax.jit(lambda v, x: model.apply(v, to_model_range(x), method="encode"))
    found = []
    for i in range(len(source)):
        try:
            crop = centre_crop(source[i], CROP)
        except InputError:  # smaller than the crop
            continue
        found.append(np.asarray(encode(variables, crop[None]))[0])
    np.save(kept, np.stack(found))
    return np.stack(found)


def _published(file: weights.Weights) -> tuple[glc.GLC, dict[str, Any]]:
    model = {**file.config["model"], **dict.fromkeys(weights.TRAINING_PARTS)}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), file.tree["params"])
    return glc.build(model), {"params": params}


class Study:
    """One choice, from its first parameters to its files."""

    def __init__(self, file: weights.Weights, entropy: dict[str, Any], seed: int) -> None:
        fields = {**file.config["model"], **dict.fromkeys(weights.TRAINING_PARTS)}
        self.model, self.seed = glc.build({**fields, "entropy": entropy}), seed
        channels = fields["latent_channels"]
        shapes = (jnp.zeros((1, SIDE, SIDE, channels)), jnp.zeros(1))
        start = jax.jit(lambda key: self.model.init(key, *shapes, method="code")["params"])
        fresh = dict(weights.flatten(start(jax.random.key(seed))))
        known = dict(weights.flatten(file.tree["params"]))
        self.params = {
            path: leaf
            if path.startswith(ANEW) or np.shape(known.get(path)) != leaf.shape
            else jnp.asarray(known[path], jnp.float32)
            for path, leaf in fresh.items()
        }
        self.count = sum(p.size for n, p in self.params.items() if n.startswith(TRAINED))

    @property
    def variables(self) -> dict[str, Any]:
        return {"params": weights.unflatten(self.params)}

    def train(self, latents: np.ndarray, steps: int, log: bool = True) -> None:
        """Stage II's loss on random crops of the latents, all rate points in every batch."""
        tune = optimiser(
            Optimizer(2e-3, warmup_steps=steps // 20, tail_steps=steps // 2, b2=0.98), steps
        )
        quantiser = quantize.Mixed()
        rates = jnp.arange(BATCH) % len(LAMBDAS)

        def loss(trained: Any, frozen: Any, crops: jax.Array, key: jax.Array):
            variables = {"params": weights.unflatten({**frozen, **trained})}
            moment = quantize.Moment(jnp.int32(0), jax.random.split(key, BATCH))
            code = self.model.apply(
                variables,
                crops,
                rates.astype(jnp.float32),
                lambda values, scale: quantiser(values, moment._replace(scale=scale)),
                training=True,
                method="code",
            )
            bpp = code.bits() / (crops.shape[1] * crops.shape[2] * self.pixels)
            error = jnp.mean((code.latent_hat - crops) ** 2)
            commitment = sum(
                code.coded[name].quantised.loss for name in self.model.hyperprior.codebooks()
            )
            return jnp.mean(jnp.asarray(LAMBDAS)[rates] * bpp) + error + commitment, (bpp, error)

        @jax.jit
        def step(trained: Any, state: Any, frozen: Any, crops: jax.Array, key: jax.Array):
            gradients, seen = jax.grad(loss, has_aux=True)(trained, frozen, crops, key)
            updates, state = tune.update(gradients, state, trained)
            return jax.tree.map(jnp.add, trained, updates), state, seen

        trained = {n: p for n, p in self.params.items() if n.startswith(TRAINED)}
        frozen = {n: p for n, p in self.params.items() if not n.startswith(TRAINED)}
        state, rng = tune.init(trained), np.random.default_rng(self.seed)
        for number in range(steps):
            crops = _crops(latents, rng)
            key = jax.random.fold_in(jax.random.key(self.seed), number)
            trained, state, (bpp, error) = step(trained, state, frozen, crops, key)
            if log and (number + 1) % 100 == 0:
                print(f"  {number + 1}: bpp {float(bpp.mean()):.4f}, error {float(error):.4f}")
        self.params = {**frozen, **trained}

    pixels = 256  # of the picture, that a position of l stands for

    def targets(self, latents: np.ndarray, rate: float) -> dict[str, jax.Array]:
        rates = np.full(len(latents), rate, np.float32)
        return self._targets(self.variables, latents, rates)

    @functools.cached_property
    def _targets(self) -> Any:
        return jax.jit(lambda *arrays: self.model.apply(*arrays, method="targets"))

    def files(self, train: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
        """Real files of the held-out latents, one for each and rate point, and what they took."""
        rng = np.random.default_rng(self.seed)
        samples = [self.targets(_crops(train, rng, 16, 16), rate) for rate in range(len(LAMBDAS))]
        tree = export.export(self.model.entropy_model(), self.model.run, self.variables, samples)
        exact = ExactModel(tree)

        counted = jax.jit(functools.partial(self.model.apply, method="counted"))
        synthesise = jax.jit(lambda v, y, r: self.model.apply(v, y, r, method="synthesis"))
        rows, seconds = [], {"encode": [], "decode": []}
        for rate in range(len(LAMBDAS)):
            size, of_z, estimate, errors = 0, 0.0, 0.0, []
            for latent in held_out:
                targets = self.targets(latent[None], rate)
                to_code, bits = jax.device_get(counted(self.variables, targets))
                began = time.perf_counter()
                coded = exact.encode(to_code)
                payload, options = exact.write(coded)
                seconds["encode"].append(time.perf_counter() - began)
                check = bitstream.symbols_check(*(v[0] for v in coded.values.values()))
                written = bitstream.serialise(
                    bitstream.Container(CROP, CROP, 0, b"00", payload, options, check)
                )
                began = time.perf_counter()
                h, w = (side // sizes.HYPER_DOWNSAMPLING for side in latent.shape[:2])
                read = exact.decode(payload, options, h, w)
                seconds["decode"].append(time.perf_counter() - began)
                for name, values in coded.values.items():
                    np.testing.assert_array_equal(read.values[name], values)
                l_hat = synthesise(
                    self.variables, exact.latent(read, "y"), np.full(1, rate, np.float32)
                )
                errors.append(float(jnp.mean((l_hat[0] - latent) ** 2)))
                size += len(written)
                estimate += float(sum(b[0] for b in bits.values())) / 8
                spent = exact.bits(coded)
                of_z += sum(v for n, v in spent.items() if n.startswith("z")) / 8
            rows.append(
                {
                    "bytes": size / len(held_out),
                    "estimate": estimate / len(held_out),
                    "bytes_z": of_z / len(held_out),
                    "error": float(np.mean(errors)),
                }
            )
        return {
            "rates": rows,
            "parameters": self.count,
            **{f"seconds_{n}": float(np.median(v)) for n, v in seconds.items()},
        }


def _crops(
    latents: np.ndarray, rng: np.random.Generator, count: int = BATCH, side: int = SIDE
) -> np.ndarray:
    """[count, side, side, C] at random places."""
    found = []
    for picture in rng.integers(len(latents), size=count):
        room = [size - side for size in latents.shape[1:3]]
        top, left = (int(rng.integers(r + 1)) for r in room)
        found.append(latents[picture, top : top + side, left : left + side])
    return np.stack(found)


def run(arguments: argparse.Namespace) -> None:
    """Every chosen choice and seed; the results are kept after each."""
    output = arguments.output
    try:
        results = json.loads(output.read_text()) if output.is_file() else {"runs": []}
        done = {(r["choice"], r["seed"]) for r in results["runs"]}
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{output}: holds no results of a study; name another file.") from error
    file = weights.load(weights.resolve(arguments.weights))
    train = latents_of(arguments.photos, file, output.parent)
    held_out = latents_of(arguments.held_out, file, output.parent)
    setting = {
        "steps": arguments.steps,
        "weights": file.fingerprint.hex(),
        "train": len(train),
        "held_out": len(held_out),
    }
    if results.setdefault("setting", setting) != setting:
        raise InputError(f"{output} holds results of {results['setting']}, not of {setting}.")
    for seed in range(arguments.seeds):
        for name in arguments.choices:
            if (name, seed) in done or (seed and name not in arguments.repeat):
                continue
            print(f"{name}, seed {seed}", flush=True)
            study = Study(file, CHOICES[name], seed)
            study.train(train, arguments.steps)
            row = {"choice": name, "seed": seed, **study.files(train, held_out)}
            results["runs"].append(row)
            output.write_text(json.dumps(results, indent=1))
            print(json.dumps(row), flush=True)


def difference(run: dict[str, Any], anchor: dict[str, Any]) -> float:
    """Bytes against the anchor's at equal error of l_hat, percent; NaN where not comparable."""
    curves = [
        [[r[name] for r in one["rates"]] for name in ("bytes", "error")] for one in (anchor, run)
    ]
    found = bd_rate(*curves[0], *curves[1], higher_is_better=False)
    return float("nan") if found is None else found.percent


def table(results: dict[str, Any]) -> str:
    """The rows of the page."""
    anchors = {r["seed"]: r for r in results["runs"] if r["choice"] == "GLC"}
    lines = [
        "| choice | bytes at equal error | bytes a file | of them z | estimate | encode, s | "
        "decode, s | parameters |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in CHOICES:
        runs = [r for r in results["runs"] if r["choice"] == name]
        if not runs:
            continue
        found = [difference(r, anchors[0]) for r in runs]
        spread = f" ({min(found):+.1f} to {max(found):+.1f})" if len(found) > 1 else ""
        mean = {
            key: np.mean([[point[key] for point in r["rates"]] for r in runs])
            for key in ("bytes", "bytes_z", "estimate")
        }
        lines.append(
            f"| {name} | {np.mean(found):+.1f} %{spread} | {mean['bytes']:,.0f} | "
            f"{mean['bytes_z']:,.0f} | {mean['estimate']:,.0f} | "
            f"{np.mean([r['seconds_encode'] for r in runs]):.2f} | "
            f"{np.mean([r['seconds_decode'] for r in runs]):.2f} | {runs[0]['parameters']:,} |"
        )
    return "\n".join(lines)


def plot(results: dict[str, Any], path: pathlib.Path) -> None:
    """Bytes over the error of l_hat, a line for each choice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(CHOICES):
        runs = [r for r in results["runs"] if r["choice"] == name][:1]
        for one in runs:
            x, y = zip(*[(p["bytes"], p["error"]) for p in one["rates"]], strict=True)
            style = {"color": "black", "linewidth": 2} if name == "GLC" else {}
            axes.plot(x, y, "os^Dv"[number % 5] + "-", label=name, markersize=4, **style)
    axes.set(xlabel="bytes a file", ylabel="squared error of l_hat")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
    FigureCanvasAgg(figure)
    figure.savefig(path)


BEGIN, END = "<!-- study -->", "<!-- /study -->"


def write_page(results: dict[str, Any], page: pathlib.Path) -> None:
    """The table into the page, between its two marks, and the plot beside it."""
    text = page.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    setting = (
        "{steps} steps, {train} photographs to train on, {held_out} held out, 512 x 512 each; of "
        "the weights {weights}.".format(**results["setting"])
    )
    page.write_text(f"{before}{BEGIN}\n{setting}\n\n{table(results)}\n{END}{after}")
    plot(results, page.parent / "images" / "entropy_study.png")


def main(given: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="?", help="folder to train on")
    parser.add_argument("held_out", nargs="?", help="folder of photographs to code")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("study.json"))
    parser.add_argument("--weights", help="the model of the latents (default: the packaged one)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument(
        "--repeat", nargs="+", choices=list(CHOICES), default=["GLC"], help="with every seed"
    )
    parser.add_argument("--page", type=pathlib.Path, help="results to write into the page")
    arguments = parser.parse_args(given)
    if not arguments.page and not (arguments.photos and arguments.held_out):
        parser.error("give PHOTOS and HELD_OUT, or --page")
    try:
        if arguments.page:
            docs = pathlib.Path(__file__).resolve().parents[1] / "docs"
            write_page(json.loads(arguments.page.read_text()), docs / "entropy_models.md")
        else:
            run(arguments)
    except GLCError as error:
        print(f"study: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
