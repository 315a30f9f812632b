"""Times coding and a train step of a config, against the machine's matrix-multiply peak.

    python scripts/benchmark.py configs/tiny.py:stage1
    python scripts/benchmark.py configs/natural.py:stage3 --only train --batch 8 --compile-only
    python scripts/benchmark.py configs/natural.py:stage3 --topology v5e:2x2 --batch 16 --remat
    python scripts/benchmark.py configs/natural.py:stage1 --input PHOTOS
    python scripts/benchmark.py --files PHOTO... --rates 0 1 2 3
    python scripts/benchmark.py --files PHOTO... --rates 1 --fast
    python scripts/benchmark.py --sizes 768x512 4000x3000 --plot docs/images/performance.png

The second command allocates nothing: it prints what the compiled step would hold in memory. The
third does the same for TPUs that are not at hand (`pip install libtpu`), over the mesh of a run:
with it what they send each other, and the time that their published peaks allow; the compiler
refuses a step that does not fit. The fourth says how many crops a second a core cuts from JPEGs of
a megapixel, into which it turns the pictures of a folder. The fifth writes and reads real .glc
files with a packaged model or --weights: what their bytes are beside the float model's estimate,
and what share of the time entropy coding takes. The sixth says how far files and pictures of the
fast mode are from the usual ones, or with `--engine xla` those of XLA. The seventh codes a
synthetic picture of each size in a process of its own: time and peak memory of each phase. The
results are printed as a table and, with --json, written to a file.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

INPUT_PHOTOS = 24  # of a folder, for --input


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", help="FILE.py:STAGE")
    parser.add_argument("--files", nargs="+", type=pathlib.Path, help="pictures or folders")
    parser.add_argument("--sizes", nargs="+", metavar="WIDTHxHEIGHT", help="of pictures to code")
    parser.add_argument("--max-memory", help="with --sizes: what each process may take")
    parser.add_argument("--engine", help="with --sizes and --files: xla or openvino")
    parser.add_argument(
        "--fast", action="store_true", help="with --sizes and --files: as glc --fast"
    )
    parser.add_argument("--repeats", type=int, default=1, help="with --sizes: runs that count")
    parser.add_argument("--plot", type=pathlib.Path, help="with --sizes: picture to write")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.0, 1.0, 2.0, 3.0])
    parser.add_argument("--weights", help="packaged name or file (default: the packaged model)")
    parser.add_argument("--only", choices=["coding", "train"], help="(default: both)")
    parser.add_argument("--size", default="768x512", help="WIDTHxHEIGHT of the picture coded")
    parser.add_argument("--batch", type=int, help="of the train step (default: the config's)")
    parser.add_argument("--accumulate", type=int, help="(default: the config's)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="(default: the config's)")
    parser.add_argument("--remat", action="store_true", help="as config.remat=True")
    parser.add_argument("--compile-only", action="store_true", help="memory and operations only")
    parser.add_argument(
        "--topology", metavar="NAME", help="compile the train step for these TPUs, such as v5e:2x2"
    )
    parser.add_argument("--input", metavar="PHOTOS", help="a folder: measure the config's crops")
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    arguments = parser.parse_args()
    if sum(map(bool, (arguments.config, arguments.files, arguments.sizes))) != 1:
        parser.error("give one of a config, --files and --sizes")
    if arguments.json and arguments.json.exists() and not holds_results(arguments.json):
        parser.error(f"{arguments.json} exists already and holds no results; name another file")
    if arguments.files and (arguments.fast or arguments.engine):
        return compare_files(arguments)
    if arguments.files:
        return benchmark_files(arguments)
    if arguments.sizes:
        return benchmark_sizes(arguments)
    if arguments.input:
        return benchmark_input(arguments)

    import jax

    from glc_jax.errors import GLCError
    from glc_jax.training import benchmark
    from glc_jax.training.config import read
    from glc_jax.training.parts import assemble

    try:
        config = load(arguments.config)
        for name in ("batch", "accumulate", "dtype"):
            if getattr(arguments, name):
                config[name] = getattr(arguments, name)
        config["remat"] |= arguments.remat
        parts = assemble(read(config))
        devices = benchmark.topology(arguments.topology) if arguments.topology else None
        compile_only = arguments.compile_only or devices is not None
        peak = None if compile_only else benchmark.matmul_peak(config["dtype"])
        results = []
        if arguments.only != "train" and devices is None:
            width, height = (int(side) for side in arguments.size.split("x"))
            results += benchmark.measure_coding(parts, height, width, peak)
        if arguments.only != "coding":
            results.append(benchmark.measure_training(parts, peak, devices))
    except (GLCError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2

    report = {
        "config": arguments.config,
        "batch": config["batch"],
        "accumulate": config["accumulate"],
        "dtype": config["dtype"],
        "remat": config["remat"],
        "device": (devices or jax.devices())[0].device_kind,
        "devices": len(devices) if devices else 1,
        "machine": platform.machine(),
        "jax": jax.__version__,
        "parameters": benchmark.parameter_count(parts),
        "matmul_peak_flops": peak,
        "peak_memory_bytes": benchmark.peak_memory(),
        "results": [dataclasses.asdict(result) for result in results],
    }
    print_table(report)
    for result in results if devices else ():
        print_sent(benchmark, result, report["device"], len(devices))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def holds_results(path: pathlib.Path) -> bool:
    """Whether a file is empty or JSON, as an earlier run writes it."""
    try:
        text = path.read_text(encoding="utf-8")
        return not text or isinstance(json.loads(text), dict | list)
    except (OSError, ValueError):
        return False


def speed(count: int, seconds: float) -> str:
    """Millions a second; nothing where the time was too short to be told."""
    return f"{count / seconds / 1e6:.1f}" if seconds else "?"


def chosen(arguments: argparse.Namespace) -> Iterator[tuple[float, str, Any]]:
    """(rate, name, picture) of --rates and --files."""
    from glc_jax import images

    paths = [f for p in arguments.files for f in (images.find(p) if p.is_dir() else [p])]
    for rate in arguments.rates:
        for path in paths:
            yield rate, path.name, images.read(path)


def benchmark_files(arguments: argparse.Namespace) -> int:
    """Real files of each picture at each rate: a line for each, then sums."""
    from glc_jax import weights
    from glc_jax.errors import GLCError
    from glc_jax.evaluation.coding import CodingMeter

    found = []
    try:
        meter = CodingMeter(weights.load(weights.resolve(arguments.weights)))
        for rate, name, picture in chosen(arguments):
            coding = meter.measure(picture, rate)
            found.append({"name": name, "rate": rate, **coding._asdict()})
            height, width = picture.shape[:2]
            print(
                f"rate {rate:<4g} {name:<24} {width}x{height}  {coding.bytes:6d} bytes, "
                f"{coding.bytes - coding.payload} of them not payload; "
                f"estimate {coding.float_bits / 8:8.1f}; "
                f"y {coding.exact_y_bits / coding.float_y_bits - 1:+.2%} for exactness; "
                f"z {coding.z_bits / coding.z_count:.2f} bits an index; "
                f"compress {coding.compress_seconds:.2f} s, "
                f"{coding.encode_seconds / coding.compress_seconds:.0%} entropy coding "
                f"({coding.encode_seconds:.3f} s); "
                f"decompress {coding.decompress_seconds:.2f} s, "
                f"{coding.decode_seconds / coding.decompress_seconds:.0%} "
                f"({coding.decode_seconds:.3f} s); coder "
                f"{speed(coding.symbols, coding.coder_encode_seconds)} M symbols/s out, "
                f"{speed(coding.symbols, coding.coder_decode_seconds)} M in",
                flush=True,
            )
    except GLCError as error:
        print(error, file=sys.stderr)
        return 2
    for rate in arguments.rates:
        total = {
            field: sum(entry[field] for entry in found if entry["rate"] == rate)
            for field in found[0]
            if field not in ("name", "rate")
        }
        print(
            f"rate {rate:<4g} all: {total['bytes']} bytes, estimate {total['float_bits'] / 8:.1f}, "
            f"y {total['exact_y_bits'] / total['float_y_bits'] - 1:+.3%} for exactness, "
            f"z {total['z_bits'] / total['z_count']:.2f} bits an index, "
            f"{total['z_bits'] / 8 / total['bytes']:.1%} of the bytes"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def benchmark_input(arguments: argparse.Namespace) -> int:
    """The config's crops from JPEGs of a megapixel, by one core."""
    from glc_jax import images
    from glc_jax.errors import GLCError
    from glc_jax.training import input_speed, inputs
    from glc_jax.training.config import read

    try:
        config = load(arguments.config)
        with tempfile.TemporaryDirectory() as folder:
            photos = images.find(arguments.input)[:INPUT_PHOTOS]
            input_speed.write_jpegs(photos, pathlib.Path(folder), megapixels=1)
            config["batch"] = len(photos)
            config["data"] = {**config["data"], "folder": folder, "cache_gb": 0.0}
            speed = input_speed.measure_input(inputs.open_batches(read(config)), count=20)
    except (GLCError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    crop, scale = config["data"]["crop"], config["data"]["scale"]
    print(
        f"{speed.images_per_second:.0f} crops of {crop} a second and core, scaled by {scale}, from "
        f"{len(photos)} JPEGs of a megapixel; {machine()}"
    )
    if arguments.json:
        report = {**speed._asdict(), "crop": crop, "scale": scale, "machine": machine()}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def compare_files(arguments: argparse.Namespace) -> int:
    """Files and pictures of the fast mode or of another engine, beside the usual ones."""
    from glc_jax import weights
    from glc_jax.codec import Codec
    from glc_jax.errors import GLCError
    from glc_jax.evaluation import modes

    found = []
    try:
        loaded = weights.load(weights.resolve(arguments.weights))
        usual, other = Codec(loaded), Codec(loaded, engine=arguments.engine)
        for rate, name, picture in chosen(arguments):
            one = modes.compare(usual, other, picture, rate, arguments.fast)
            found.append({"name": name, "rate": rate, **one._asdict()})
            print(
                f"rate {rate:<4g} {name:<24} {one.others} of {one.symbols} symbols; "
                f"{one.bytes} and {one.other_bytes} bytes; {one.psnr:.2f} dB between the "
                f"pictures, {one.largest} levels at most; {one.to_original:.2f} and "
                f"{one.other_to_original:.2f} dB to the original",
                flush=True,
            )
    except GLCError as error:
        print(error, file=sys.stderr)
        return 2
    total = {name: sum(row[name] for row in found) for name in modes.Difference._fields}
    least = min(row["psnr"] for row in found)
    print(
        f"all: {total['others']} of {total['symbols']} symbols, "
        f"{total['other_bytes'] / total['bytes'] - 1:+.2%} bytes, "
        f"{total['psnr'] / len(found):.2f} dB on average and {least:.2f} at least, "
        f"{max(row['largest'] for row in found)} levels at most, "
        f"{total['to_original'] / len(found):.2f} and "
        f"{total['other_to_original'] / len(found):.2f} dB to the originals"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def benchmark_sizes(arguments: argparse.Namespace) -> int:
    """A picture of each size in a process of its own: a row of the table for each."""
    import jax

    from glc_jax.evaluation import phases

    more = [f"--repeats={arguments.repeats}"]
    more += [f"--weights={arguments.weights}"] if arguments.weights else []
    more += [f"--max-memory={arguments.max_memory}"] if arguments.max_memory else []
    more += [f"--engine={arguments.engine}"] if arguments.engine else []
    more += ["--fast"] if arguments.fast else []
    print(f"{jax.devices()[0].device_kind}, {machine()}, JAX {jax.__version__}; {' '.join(more)}")
    heads = [f"{phase}: s (CPU s), peak |" for phase in phases.PHASES]
    print("| picture | megapixels |", *heads, "process: peak |")
    print("|" + " --- |" * (3 + len(phases.PHASES)))
    rows = []
    for size in arguments.sizes:
        width, height = (int(side) for side in size.split("x"))
        command = [sys.executable, "-m", phases.__name__, str(width), str(height), *more]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return done.returncode
        row = json.loads(done.stdout)
        rows.append(row)
        cells = [
            f"{found['seconds']:.1f} ({found['cpu_seconds']:.1f}), "
            f"{found['peak_bytes'] / 1e9:.2f} GB |"
            for found in row["phases"].values()
        ]
        print(
            f"| {size} | {row['megapixels']:.1f} |",
            *cells,
            f"{row['peak_bytes'] / 1e9:.2f} GB |",
            flush=True,
        )
    if arguments.json:
        report = {"machine": machine(), "jax": jax.__version__, "options": more, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        plot_sizes(rows, arguments.plot)
    return 0


def plot_sizes(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """CPU seconds and peak memory over the picture's size, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    megapixels = [row["megapixels"] for row in rows]
    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for phase in rows[0]["phases"]:
        time.loglog(
            megapixels, [row["phases"][phase]["cpu_seconds"] for row in rows], "o-", label=phase
        )
    memory.loglog(megapixels, [row["peak_bytes"] / 1e9 for row in rows], "o-")
    time.set(xlabel="megapixels", ylabel="CPU seconds")
    memory.set(xlabel="megapixels", ylabel="peak memory of the process, GB")
    time.legend()
    for axes in (time, memory):
        axes.grid(which="both", alpha=0.3)
    figure.savefig(path, dpi=100)


def machine() -> str:
    """The processor and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def load(name: str) -> dict[str, Any]:
    """The config that FILE.py:STAGE names."""
    file, _, stage = name.partition(":")
    spec = importlib.util.spec_from_file_location("config", file)
    if spec is None or not pathlib.Path(file).is_file():
        raise ValueError(f"{file}: no such config file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if stage and stage not in ("stage1", "stage2", "stage3"):
        raise ValueError(f"{name}: the stage is stage1, stage2 or stage3.")
    return module.get_config(stage or "stage1").to_dict()


def print_table(report: dict[str, Any]) -> None:
    """The report, for people."""
    if report["matmul_peak_flops"]:
        print(f"matrix-multiply peak ({report['dtype']}): {report['matmul_peak_flops'] / 1e9:.1f} "
              f"GFLOP/s; peak memory {report['peak_memory_bytes'] / 1e9:.2f} GB")  # fmt: skip
    for result in report["results"]:
        line = f"{result['name']:<14} {result['flops'] / 1e9:10.1f} GFLOP  "
        line += f"holds {result['memory_bytes'] / 1e9:6.2f} GB"
        if result["seconds"]:
            line += f"  {result['seconds']:8.3f} s  {result['images_per_second']:8.3f} images/s"
            line += f"  {result['megapixels_per_second']:7.3f} megapixels/s"
            line += f"  {result['peak_share']:6.1%} of peak"
        print(line)


def print_sent(benchmark: Any, result: Any, kind: str, devices: int) -> None:
    """What a step over a topology sends, and the time that the chips' published peaks allow."""
    for name, sent in result.collectives.items():
        print(f"  {name}: {sent.count} of {sent.bytes / 1e6:.1f} MB in all, on each of {devices}")
    if limits := benchmark.allowed(result, kind, devices):
        computing, sending = (1e3 * seconds for seconds in limits)
        print(f"  at the peaks of a {kind}: {computing:.1f} ms computing, {sending:.1f} ms sending")


if __name__ == "__main__":
    sys.exit(main())
