"""Eighty steps of each stage on real photographs lower every loss that they should."""

import pathlib
import re

import pytest

from glc_jax import images
from glc_jax.training.loop import train
from tests.training import small

STEPS = 80


@pytest.fixture(scope="module")
def runs(shared, tmp_path_factory) -> dict[int, tuple[dict, dict]]:
    """Stages I, II and III in a row: the metrics of the first and of the last 10 steps of each."""
    folder, previous, found = tmp_path_factory.mktemp("learning"), "", {}
    photos = folder / "photos"
    photos.mkdir()
    for photo in sorted(images.find(shared / "photos"))[::7]:  # decoding all takes longest
        (photos / photo.name).symlink_to(photo)
    for stage in (1, 2, 3):
        config = small.config(
            stage,
            steps=STEPS,
            log_every=10,
            init_from=previous,
            data__folder=str(photos),
            data__scale=(0.2, 0.5),
            data__cache_gb=1.0,
            checkpoint__every=STEPS,
            losses__lpips=0.0,  # most of the time of such small steps
        )
        config["optimizer"] |= {"warmup_steps": 10, "tail_steps": 20, "learning_rate": 2e-3}
        if stage == 1:
            start = small.weights_file(folder / "start.safetensors", config)
            config["init_from"] = start
        workdir = folder / f"stage{stage}"
        lines = logged(config, workdir)
        found[stage] = lines[0], lines[-1]
        previous = str(workdir)
    return found


def logged(config: dict, workdir: pathlib.Path) -> list[dict[str, float]]:
    """The metrics of each progress line of a run."""
    import logging

    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("glc_jax.training.loop")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        train(config, workdir)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    pattern = re.compile(r"([\w/]+) (-?[\d.]+(?:e[-+]\d+)?)(?=  |$)")
    return [
        {name: float(value) for name, value in pattern.findall(record)}
        for record in records
        if record.startswith("step ")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "losses"),
    [
        (1, ["loss", "l1", "multiscale_l1"]),
        (2, ["loss", "rate", "latent", "code_prediction"]),
        (3, ["loss", "l1", "multiscale_l1", "rate", "pixel_code_prediction"]),
    ],
)
def test_losses_fall(runs, stage, losses):
    first, last = runs[stage]
    for name in losses:
        assert last[name] < first[name], (name, first[name], last[name])
