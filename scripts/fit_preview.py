"""The map of previews for weights that have none: python scripts/fit_preview.py WEIGHTS -o OUT

Everything else stays as it is, the fingerprint too, so that .glc files go on naming these weights.
An export (scripts/export.py) fits the map itself; a converted checkpoint has none.
"""

import argparse
import pathlib
import sys

SCALE = (0.4, 1.0)
"""What pictures are made smaller by before they are cut."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", metavar="WEIGHTS", help="a weights file or a packaged name")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="OUT")
    parser.add_argument(
        "-f", "--force", action="store_true", help="replace a file that is no weights file"
    )
    parser.add_argument("--data", required=True, metavar="FOLDER", help="pictures to fit it to")
    parser.add_argument("--batches", type=int, default=64, help="of 8 pictures (default: 64)")
    parser.add_argument("--crop", type=int, default=256, help="a side of each, in pixels")
    options = parser.parse_args(arguments)

    import jax
    import numpy as np

    from glc_jax import weights
    from glc_jax.data.pipeline import training_batches
    from glc_jax.data.sources import FolderSource
    from glc_jax.errors import GLCError
    from glc_jax.models import choices
    from glc_jax.training.export import WEIGHTS_BATCH, preview_map

    try:
        source = weights.resolve(options.weights)
        weights.check_output(options.output, [source], options.force)
        loaded = weights.load(source)
        config = {**loaded.config, "model": choices.canonical(loaded.config["model"])}
        params = jax.tree.map(lambda leaf: leaf.astype(np.float32), loaded.tree["params"])
        batches = training_batches(
            FolderSource(options.data),
            batch=WEIGHTS_BATCH,
            crop=options.crop,
            scale=SCALE,
            flip=True,
            seed=0,
            threads=1,
        )
        tree = {**loaded.tree, "preview": preview_map(config, params, batches, options.batches)}
        written = weights.save(options.output, tree, loaded.config, loaded.provenance)
    except GLCError as error:
        print(f"fit_preview: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {written.file_bytes:,} bytes, {written.fingerprint.hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
