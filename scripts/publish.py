"""A weights file as a folder for the Hugging Face hub: weights, card, licence.

    python scripts/publish.py WEIGHTS -o FOLDER --repository OWNER/NAME --report results.json
    hf upload OWNER/NAME FOLDER

Then `glc compress photo.jpg --weights hf:OWNER/NAME` and `glc_jax.load("hf:OWNER/NAME")` find it.
Nothing is sent anywhere by this script. The card (README.md) has what the weights file says of
itself, and the table of an evaluation by `glc evaluate` of these weights.
"""

import argparse
import json
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from glc_jax import hub, weights
from glc_jax.errors import GLCError, InputError, OutputError

LICENCE = pathlib.Path(__file__).parents[1] / "LICENSE"
APACHE = "apache-2.0"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        model = weights.describe(weights.resolve(options.weights))
        report = None if options.report is None else read_report(options.report, model)
        licence = LICENCE if options.licence_file is None else options.licence_file
        if options.licence != APACHE and options.licence_file is None:
            raise InputError(f"--licence {options.licence} needs its text: --licence-file FILE.")
        text = card(model, options.repository, options.licence, report)
        write(options.output, model, text, licence)
    except (GLCError, OSError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 1
    print(f"Now: hf upload {options.repository} {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", metavar="WEIGHTS", help="a weights file or a packaged name")
    parser.add_argument(
        "-o", "--output", required=True, type=pathlib.Path, metavar="FOLDER", help="a new folder"
    )
    parser.add_argument("--repository", required=True, metavar="OWNER/NAME", help="on the hub")
    parser.add_argument(
        "--report", type=pathlib.Path, metavar="JSON", help="results.json of an evaluation"
    )
    parser.add_argument(
        "--licence", default=APACHE, metavar="ID", help="of the weights (default: %(default)s)"
    )
    parser.add_argument(
        "--licence-file", type=pathlib.Path, metavar="FILE", help="its text, where it is another"
    )
    return parser


def read_report(path: pathlib.Path, model: weights.Description) -> dict[str, Any]:
    """What results.json holds.

    Raises:
      InputError: it is no report, or one of other weights.
    """
    try:
        found = json.loads(path.read_text())
        tested = {method["id"]: method.get("fingerprint") for method in found["methods"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the results.json of an evaluation ({error}).") from error
    if tested.get("glc") != model.fingerprint.hex():
        raise InputError(
            f"{path}: measures the weights {tested.get('glc')}, and these are "
            f"{model.fingerprint.hex()}; evaluate them first."
        )
    if found.get("degradations"):
        raise InputError(f"{path}: measures degraded pictures; evaluate without --degrade.")
    return found


def card(
    model: weights.Description, repository: str, licence: str, report: Mapping[str, Any] | None
) -> str:
    """README.md of the repository, with the lines that the hub reads at its top.

    Raises:
      WeightsError: `repository` is no OWNER/NAME.
    """
    address = f"{hub.SCHEME}{repository}"
    hub.parse(address)
    front = {"license": licence, "library_name": "glc_jax", "pipeline_tag": "image-to-image"}
    lines = [
        "---",
        *(f"{key}: {value}" for key, value in front.items()),
        *("tags:", "- image-compression", "- jax"),
        "---",
        "",
        f"# {model.name}",
        "",
        f"Weights of the generative latent image codec GLC for glc_jax: {model.parameters:,} "
        f"parameters, {model.dtype}, {model.file_bytes / 1e6:.1f} MB. Files name them by "
        f"`{model.fingerprint.hex()}`.",
        "",
        "```",
        "pip install 'glc-jax[hub]'",
        f"glc compress photo.jpg --weights {address}",
        f"glc decompress photo.glc --weights {address}",
        "```",
        "",
        "```python",
        "import glc_jax",
        "",
        f'codec = glc_jax.load("{address}")  # @REVISION at the end pins a commit, as one should',
        "```",
        "",
        "## Where they come from",
        "",
        *(f"- {key}: {value}" for key, value in model.provenance.items()),
    ]
    if report is not None:
        lines += ["", "## Evaluation", "", *table(report)]
    return "\n".join(lines) + "\n"


def table(report: Mapping[str, Any]) -> list[str]:
    """The averages of a report, as lines of a Markdown table, and what it is of."""
    names = {method["id"]: method["label"] for method in report["methods"]}
    metrics = report["metrics"]
    heads = ["codec", "rate", "bpp", *(about["label"] for about in metrics.values())]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for row in report["averages"]:
        values = [
            "-" if row[name] is None else f"{row[name]:.{about['decimals']}f}"
            for name, about in metrics.items()
        ]
        cells = [names[row["method"]], row["point"], f"{row['bpp']:.4f}", *values]
        lines.append("| " + " | ".join(cells) + " |")
    data = report["dataset"]
    lines += ["", f"{data['pictures']} pictures ({data['label']}); bpp of real files, averages."]
    return [*lines, *(f"{note}" for note in report["notes"])]


def write(
    folder: pathlib.Path, model: weights.Description, text: str, licence: pathlib.Path
) -> None:
    """Makes the folder.

    Raises:
      OutputError: there is something in it already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: is not empty; name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.path, folder / hub.FILE)
    shutil.copyfile(licence, folder / "LICENSE")
    (folder / "README.md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
