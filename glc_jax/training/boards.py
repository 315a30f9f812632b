"""Where a run's curves, pictures and histograms go: TensorBoard, and others behind one interface.

`config.boards` names them; one of someone's own is a class, named as "package.module:Class", that
is made from (workdir, config) and has the methods of `Board`. Only the first host has any.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from etils import epath

from glc_jax import named
from glc_jax.data import address
from glc_jax.errors import ConfigError
from glc_jax.training.config import Config, plain

COPY_SECONDS = 300  # between two copies of TensorBoard's file to a bucket


class Board(Protocol):
    """Pictures are uint8 [H, W, 3]; names may have slashes."""

    def __init__(self, workdir: epath.Path, config: Config): ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def picture(self, step: int, name: str, picture: np.ndarray) -> None: ...

    def histogram(self, step: int, name: str, values: np.ndarray) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in WORKDIR/tensorboard.

    In a bucket, where nothing can be appended to a file, the whole file is written every few
    minutes and at the end.
    """

    def __init__(self, workdir: epath.Path, config: Config):
        import tensorboardX

        self.target, self.scratch = workdir / "tensorboard", None
        self.copied = time.monotonic()
        if address.is_address(workdir):
            self.scratch = tempfile.TemporaryDirectory()
        self.writer = tensorboardX.SummaryWriter(str(self.local))

    @property
    def local(self) -> epath.Path:
        return epath.Path(self.scratch.name) if self.scratch else self.target

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        if self.scratch and time.monotonic() - self.copied > COPY_SECONDS:
            self.writer.flush()
            self._copy()

    def _copy(self) -> None:
        self.copied = time.monotonic()
        self.target.mkdir(parents=True, exist_ok=True)
        for path in self.local.iterdir():
            (self.target / path.name).write_bytes(path.read_bytes())

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        self.writer.add_histogram(name, values, step)

    def close(self) -> None:
        self.writer.close()
        if self.scratch:
            self._copy()
            self.scratch.cleanup()


class WandB:
    """A run of Weights & Biases (`pip install wandb`), which goes on where the workdir does."""

    def __init__(self, workdir: epath.Path, config: Config):
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("boards: wandb is not installed; run: pip install wandb") from error
        self.wandb = wandb
        name = workdir.name
        self.run = wandb.init(
            project="glc_jax", name=name, id=name, resume="allow", config=plain(config)
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self.run.log({name: self.wandb.Image(picture)}, step=step)

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        self.run.log({name: self.wandb.Histogram(values)}, step=step)

    def close(self) -> None:
        self.run.finish()


BOARDS = {"tensorboard": TensorBoard, "wandb": WandB}


class Boards:
    """All boards of a run; none on hosts but the first."""

    def __init__(self, boards: Sequence[Board] = ()):
        self.boards = tuple(boards)

    def scalars(self, step: int, prefix: str, values: Mapping[str, float]) -> None:
        """Curves named PREFIX/NAME."""
        for board in self.boards:
            board.scalars(step, {f"{prefix}/{name}": value for name, value in values.items()})

    def pictures(
        self, step: int, originals: np.ndarray, reconstructions: Mapping[str, np.ndarray]
    ) -> None:
        """Rows of uint8 pictures [n, H, W, 3]: the originals above each reconstruction."""
        rows = [originals, *reconstructions.values()]
        sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
        title = "_".join(["original", *reconstructions])
        for board in self.boards:
            board.picture(step, f"pictures/{title}", sheet)

    def code_use(self, step: int, uses: Mapping[str, np.ndarray]) -> None:
        """Histograms of log10(share * K): 0 is even use."""
        for path, use in uses.items():
            relative = np.log10(np.maximum(np.asarray(use) * len(use), 1e-6))
            for board in self.boards:
                board.histogram(step, f"code_use/{path}", relative)

    def close(self) -> None:
        for board in self.boards:
            board.close()


def open_boards(config: Config, workdir: epath.Path) -> Boards:
    """The boards that the config names; raises `ConfigError` for one that cannot be."""
    kinds = [named.find(name, BOARDS, "board") for name in config.boards]
    return Boards([kind(workdir, config) for kind in kinds])
