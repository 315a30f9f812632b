"""Saves the checkpoint files in tests/data/checkpoints with torch.

python -m tests.conversion.make_checkpoints
"""

from collections import OrderedDict

import torch

from tests.conversion import micro


def tensors(state: dict) -> OrderedDict:
    """The arrays of a state dict as tensors."""
    return OrderedDict((name, torch.from_numpy(array)) for name, array in state.items())


def every_type() -> dict:
    """A tensor of each type and of each odd layout, and the containers around them."""
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 4
    return {
        "float": base,
        "transposed": base.t(),
        "shared": base[1:, ::2],
        "double": base.double(),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "long": torch.arange(3),
        "int": torch.arange(3, dtype=torch.int32),
        "short": torch.arange(3, dtype=torch.int16),
        "char": torch.arange(-1, 2, dtype=torch.int8),
        "byte": torch.arange(3, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(base + 1),
        "others": [1, -(2**40), 2.5, None, True, "text", (1,), (1, 2), (1, 2, 3, 4), {}],
        7: "a key that is a number",
    }


def main() -> None:
    """Write all files."""
    micro.FOLDER.mkdir(parents=True, exist_ok=True)
    for route in micro.ROUTES:
        torch.save(micro.nested(tensors(micro.short_state()), route), micro.nesting_file(route))
    glc = {"state_dict": tensors(micro.glc_state()), "epoch": 3}
    torch.save(glc, micro.FOLDER / "micro_glc.pth.tar")
    torch.save({"params_ema": tensors(micro.vqvae_state())}, micro.FOLDER / "micro_vqvae.pth")
    torch.save(every_type(), micro.FOLDER / "types.pth")
    torch.save(every_type(), micro.FOLDER / "types_protocol_4.pth", pickle_protocol=4)
    legacy = micro.FOLDER / "legacy.pth"
    torch.save(tensors(micro.short_state()), legacy, _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
