"""Paints photographs in styles and says how near they are to both; docs/applications.md.

    python scripts/measure_style.py PHOTOS STYLES --sheet sheet.webp

Of each pair of a photograph and a style, and of their mean: VGG16's style distance of the ordinary
picture and of the painted one, the Gram matrices' distance of the painted one as a share of the
ordinary one's, and the content distance of both, beside that of another photograph. Photographs are
squares of --side pixels from their middles.
"""

import argparse
import pathlib
import sys

import numpy as np


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contents", help="a photograph or a folder")
    parser.add_argument("styles", help="a picture or a folder")
    parser.add_argument("--weights", help="a model's name or file (default: the packaged one)")
    parser.add_argument("--stylist", help="a name or file (default: the packaged one)")
    parser.add_argument("--strength", type=float, default=1.0, help="0 to 1 (default: 1)")
    parser.add_argument("--side", type=int, default=256, help="pixels (default: 256)")
    parser.add_argument("--only", nargs="*", default=[], help="of the styles, by their names")
    parser.add_argument("--sheet", type=pathlib.Path, help="all of them as one picture")
    parser.add_argument("--cell", type=int, default=160, help="pixels of each on the sheet")
    parser.add_argument("--no-measure", action="store_true", help="the sheet alone")
    arguments = parser.parse_args()

    import glc_jax
    from glc_jax import images
    from glc_jax.errors import GLCError
    from glc_jax.evaluation import styles as styled

    try:
        codec = glc_jax.load(arguments.weights, stylist=arguments.stylist)
        contents, styles = (_found(images, arg) for arg in (arguments.contents, arguments.styles))
        styles = [s for s in styles if not arguments.only or s.stem in arguments.only]
        looks = [images.read(path) for path in styles]
        squares = styled.squares([images.read(path) for path in contents], arguments.side)
        drawn = list(styled.painted(codec, squares, looks, arguments.strength))
        if arguments.sheet:
            options = {"quality": 82, "method": 6} if arguments.sheet.suffix == ".webp" else {}
            styled.sheet(looks, drawn, arguments.cell).save(arguments.sheet, **options)
        if arguments.no_measure:
            return 0
        rows = []
        print(f"{'photograph':28.28} {'style':20.20} {HEAD}")
        for i, j, pair in styled.measure(squares, looks, drawn):
            rows.append([*pair.style, pair.grams[1], *pair.content, pair.another])
            print(f"{contents[i].stem:28.28} {styles[j].stem:20.20} {_line(rows[-1])}")
        print(f"{'mean':49} {_line(np.mean(rows, axis=0))}")
    except GLCError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


HEAD = "style: plain painted  share of Grams  content: plain painted another"


def _line(row) -> str:
    plain, painted, share, shown, kept, another = row
    return f"{plain:12.3f} {painted:7.3f} {share:15.3f} {shown:15.3f} {kept:7.3f} {another:7.3f}"


def _found(images, name: str) -> list[pathlib.Path]:
    path = pathlib.Path(name)
    return images.find(path) if path.is_dir() else [path]


if __name__ == "__main__":
    sys.exit(main())
