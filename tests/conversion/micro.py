"""Small state dicts with known values, for the checkpoint files in tests/data/checkpoints."""

import pathlib

import numpy as np

from conversion import kinds, official

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "checkpoints"
CONFIG_FILE = pathlib.Path(__file__).with_name("micro_config.py")

# Routes to a state dict as released files have them; "module." is the prefix of its names.
ROUTES = (
    (),
    ("state_dict",),
    ("net",),
    ("net_g",),
    ("state_dict", "net"),
    ("net", "net_g"),
    ("net_g", "state_dict"),
    ("state_dict", "net", "net_g"),
    ("params_ema",),
    ("params",),
    ("module.",),
    ("state_dict", "module."),
    ("state_dict", "net", "net_g", "module."),
)


def config() -> kinds.Config:
    """The config of the smallest model."""
    return kinds.load_config(CONFIG_FILE)


def state_dict(entries: list[official.Entry], seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 values for these entries, from a stream that NumPy promised to keep."""
    random = np.random.RandomState(seed)
    return {e.official: random.normal(0, 0.2, e.shape).astype(np.float32) for e in entries}


def glc_state() -> dict[str, np.ndarray]:
    """What micro_glc.pth.tar holds."""
    return state_dict(kinds.glc_entries(config()["model"]))


def vqvae_state() -> dict[str, np.ndarray]:
    """What micro_vqvae.pth holds under "params_ema"."""
    return state_dict(kinds.vqvae_entries(config()["model"]))


def short_state() -> dict[str, np.ndarray]:
    """What the files nesting_*.pth hold."""
    return {
        "q_enc": np.arange(8, dtype=np.float32).reshape(2, 4, 1, 1),
        "hyper_enc.1.bias": np.linspace(-1, 1, 4, dtype=np.float32),
    }


def nested(state: dict, route: tuple[str, ...]) -> dict:
    """The state dict under a route."""
    if "module." in route:
        state = {f"module.{name}": value for name, value in state.items()}
    for key in reversed(route):
        if key != "module.":
            state = {key: state}
    return state


def nesting_file(route: tuple[str, ...]) -> pathlib.Path:
    """The file with `short_state` under this route."""
    name = "_".join(key.strip(".") for key in route) or "plain"
    return FOLDER / f"nesting_{name}.pth"
