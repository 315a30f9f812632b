"""The estimate of a picture's memory against XLA's account of the programs; the limits as files."""

import copy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax import autoencoder, bitstream, codec, engines, memory, weights
from glc_jax.errors import InputError, TooLargeError
from glc_jax.evaluation import quality
from glc_jax.models import glc, sizes
from glc_jax.models.pixels import to_model_range, to_pixels
from glc_jax.tiles import plan
from tests import small_model

HEIGHT, WIDTH = 128, 192


def model(base: int, multipliers: list[int], window: int) -> dict:
    config = copy.deepcopy(small_model.MODEL)
    blocks = [1] * len(multipliers)
    config["vqvae"].update(
        base_channels=base,
        multipliers=multipliers,
        window=window,
        encoder_blocks=blocks,
        generator_blocks=blocks,
    )
    return config


def programs(config: dict, height: int, width: int) -> dict:
    """Bytes of temporary buffers of E's and G's programs, compiled and not run."""
    net, f = glc.build(config), sizes.downsampling(config)
    shapes = jax.eval_shape(
        net.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, *2 * (sizes.initial_side(config),), 3), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.float32),
    )["params"]
    picture = jax.ShapeDtypeStruct((1, height, width, 3), jnp.uint8)
    y_hat = jax.ShapeDtypeStruct(
        (1, height // f, width // f, config["latent_channels"]), jnp.float32
    )
    rate = jax.ShapeDtypeStruct((1,), jnp.float32)

    def encode(params, pixels):
        return net.apply({"params": params}, to_model_range(pixels), method="encode")

    def decode(params, y_hat, rate):
        latent = net.apply({"params": params}, y_hat, rate, method="synthesis")
        return to_pixels(net.apply({"params": params}, latent, method="generate"))

    return {
        "compress": jax.jit(encode).lower(shapes, picture),
        "decompress": jax.jit(decode).lower(shapes, y_hat, rate),
    }


@pytest.mark.parametrize(
    ("base", "multipliers", "window"),
    [
        (16, [1, 2, 2], 4),  # the widest place of the packaged model: a level's change of width
        (4, [1, 2, 2], 32),  # attention needs most
    ],
)
def test_estimate_is_a_little_above_what_xla_accounts_for(base, multipliers, window):
    config = model(base, multipliers, window)
    for operation, lowered in programs(config, HEIGHT, WIDTH).items():
        taken = lowered.compile().memory_analysis().temp_size_in_bytes
        needed = memory.needed_bytes(config, HEIGHT, WIDTH, operation)
        assert taken <= needed <= taken / 0.55, operation


def test_estimate_grows_with_the_picture_and_counts_its_padding():
    config = small_model.MODEL
    one = memory.needed_bytes(config, 16, 16)
    assert memory.needed_bytes(config, 160, 320) == 200 * one
    assert memory.needed_bytes(config, 17, 16) == 2 * one
    assert memory.needed_bytes(config, 16, 16, "estimate") > memory.needed_bytes(config, 16, 16)


def test_a_preview_takes_what_coding_or_drawing_does():
    """Of 20 x 16 pixels, padded to 32 x 16, y has 8 x 4 values of each channel."""
    assert small_model.MULTIPLE == 16
    pixels = memory.PICTURE_BYTES * 32 * 16
    drawing = memory.PREVIEW_BYTES * 8 * 4 * small_model.CHANNELS
    for coding, larger in ((0, drawing), (drawing + 5, drawing + 5)):
        assert memory.preview_bytes(small_model.MODEL, 20, 16, coding) == pixels + larger


def test_full_size_model_at_48_megapixels():
    """What once ended the process: four maps of 128 float channels are 98 GB."""
    from configs import natural

    needed = memory.needed_bytes(natural.model_config().to_dict(), 6000, 8000)
    assert 4 * 128 * 4 * 48e6 < needed < 1.2 * 4 * 128 * 4 * 48e6


@pytest.mark.parametrize("name", ["ms_ssim", "lpips"])
def test_estimate_of_the_metrics(name):
    function = quality._pair_function(name)
    picture = jax.ShapeDtypeStruct((1, 512, 384, 3), jnp.uint8)
    program, arguments = getattr(function, "func", function), getattr(function, "args", ())
    taken = program.lower(*arguments, picture, picture).compile().memory_analysis()
    share = taken.temp_size_in_bytes / (512 * 384 * quality.BYTES_PER_PIXEL[name])
    assert 0.6 < share < 1


# ---------------------------------------------------------------------------- refusal


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "small.safetensors"
    small_model.write_weights(path)
    return weights.load(path)


@pytest.mark.parametrize("operation", ["compress", "decompress"])
def test_a_large_picture_needs_what_the_smallest_plan_does(loaded, operation):
    made = codec.Codec(loaded)._autoencoder()
    height, width = 4000, 6000
    of_encoder = operation == "compress"
    network, scale = (made._encoder, 1) if of_encoder else (made._generator, 4)
    plans = plan.plans(network.chain, height // scale, width // scale)
    least = min(one.bytes for one in plans)
    assert least < 0.5 * max(one.bytes for one in plans)
    values = height * width // 16 * small_model.CHANNELS
    taken = least + autoencoder.LATENT_BYTES * values
    taken = max(taken, autoencoder.TRANSFORM_BYTES * values)
    found = made.needed_bytes(height, width, operation)
    assert found == autoencoder.PICTURE_BYTES * height * width + taken
    more = made.needed_bytes(height, width, operation, coding=10**12)
    assert more > 10**12


def test_what_is_drawn_is_cut_from_the_top_left(loaded, monkeypatch):
    pixels = np.arange(16 * 32 * 3).reshape(1, 16, 32, 3).astype(np.uint8)
    monkeypatch.setattr(engines.OnXLA, "run", lambda *arguments: pixels)
    latent = np.zeros((1, 4, 8, small_model.CHANNELS), np.float32)
    found = codec.Codec(loaded, engine="xla")._autoencoder().generate(latent, 9, 30)
    np.testing.assert_array_equal(found, pixels[0, :9, :30])


def test_codec_refuses_before_it_allocates(loaded, monkeypatch):
    pixels = small_model.picture(48, 64)
    data = bitstream.serialise(bitstream.Container(64, 48, 84, loaded.fingerprint, b"any", 0, 0))
    calls = {
        "compress": lambda each: each.compress(pixels),
        "decompress": lambda each: each.decompress(data),
        "estimate": lambda each: each.estimate(pixels),
    }
    monkeypatch.setattr(memory, "resident_bytes", lambda: 1000)
    for name, call in calls.items():
        needed = codec.Codec(loaded)._autoencoder().needed_bytes(48, 64, name)
        assert codec.Codec(loaded, needed + 1000).require_memory(48, 64, name) == needed
        tight = codec.Codec(loaded, max_memory=needed + 999)
        with pytest.raises(TooLargeError, match=f"64 x 48 pixels need about .* to {name}, and"):
            call(tight)
    with pytest.raises(TooLargeError, match=r"1 kB is the limit, of which 0 bytes.*max-memory"):
        codec.Codec(loaded, max_memory="1kB").compress_to_size(pixels, 1000)


@pytest.mark.slow
def test_tiles_write_and_draw_what_the_whole_picture_does(loaded, monkeypatch):
    picture = small_model.picture(150, 100)
    whole = codec.Codec(loaded)
    data = whole.compress(picture)
    drawn = whole.decompress(data).astype(int)
    monkeypatch.setattr(autoencoder, "AT_ONCE", 0)
    monkeypatch.setattr(plan, "TILE_VALUES", 2**14)
    assert codec.Codec(loaded).compress(picture) == data
    difference = np.abs(codec.Codec(loaded).decompress(data) - drawn)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_what_the_process_may_take_decides_the_plan(loaded, monkeypatch):
    """The limit, less what the process holds and the picture needs, reaches E's and G's planner."""
    limits, choose = [], autoencoder.choose

    def spy(network, height, width, limit):
        if limit is not None:  # as it is asked whether the limit is near
            limits.append(limit)
        return choose(network, height, width, limit)

    monkeypatch.setattr(autoencoder, "choose", spy)
    monkeypatch.setattr(autoencoder, "AT_ONCE", 0)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 10**8)
    limited = codec.Codec(loaded, max_memory="2GB", engine=engines.XLA)
    picture = small_model.picture(40, 60)
    limited.decompress(limited.compress(picture))
    assert limits == [19 * 10**8 - autoencoder.PICTURE_BYTES * n for n in (48 * 64, 40 * 60)]


def test_memory_is_lent_to_what_would_take_long(loaded, monkeypatch):
    made = codec.Codec(loaded, engine=engines.XLA)._autoencoder()
    needed = memory.needed_bytes(small_model.MODEL, 16, 32, "decompress")
    monkeypatch.setattr(autoencoder, "AT_ONCE", needed - 1)
    monkeypatch.setattr(autoencoder, "AT_ONCE_MOST", needed)
    room = autoencoder.AT_ONCE_SHARE * needed

    def whole(limit, long):
        monkeypatch.setattr(autoencoder, "LONG", long)
        return made._whole(16, 32, "decompress", limit)

    ratio = made._work(16, 32, "decompress") / needed
    assert whole(room, 0.99 * ratio) == needed
    assert whole(room, 1.01 * ratio) is None
    assert whole(room - 3, 0.99 * ratio) is None
    assert whole(None, 0.99 * ratio) is None
    monkeypatch.setattr(autoencoder, "AT_ONCE_MOST", needed - 1)
    assert whole(room, 0.99 * ratio) is None


def test_codec_asks_the_machine_where_it_is_told_nothing(loaded, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    with pytest.raises(TooLargeError, match="1 kB is free"):
        codec.Codec(loaded).compress(small_model.picture(48, 64))


def test_metrics_refuse_as_well():
    picture = np.zeros((64, 64, 3), np.uint8)
    meter = quality.PairMeter(["psnr"], max_memory=64 * 64 * 24 - 1)
    with pytest.raises(TooLargeError, match="for PSNR, which --metrics can leave out"):
        meter.measure(picture, picture)


# ---------------------------------------------------------------------------- limits

MEMINFO = "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable: 5000 kB\nHugePages_Total: 0\n"


def machine(root, files: dict[str, str]):
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_free_memory_without_groups(tmp_path):
    assert memory.free_bytes(machine(tmp_path, {})) == 5000 * 1024


def test_second_version_of_control_groups(tmp_path):
    """The limit of a group above counts as well; files that a group caches count as free."""
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user/job\n",
            "sys/fs/cgroup/user/job/memory.max": "max\n",
            "sys/fs/cgroup/user/job/memory.current": "77\n",
            "sys/fs/cgroup/user/memory.max": "3000000\n",
            "sys/fs/cgroup/user/memory.current": "1000000\n",
            "sys/fs/cgroup/user/memory.stat": "anon 5\ninactive_file 400000\n",
        },
    )
    assert memory.free_bytes(root) == 3000000 - 1000000 + 400000
    (root / "sys/fs/cgroup/user/job/memory.max").write_text("1000077")
    assert memory.free_bytes(root) == 1000000


def test_within_a_container_the_group_is_the_mount_itself(tmp_path):
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/docker/0123\n",
            "sys/fs/cgroup/memory.max": "2000000\n",
            "sys/fs/cgroup/memory.current": "500000\n",
        },
    )
    assert memory.free_bytes(root) == 1500000


def test_first_version_of_control_groups(tmp_path):
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "4000000\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "3900000\n",
            "sys/fs/cgroup/memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 70\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
        },
    )
    assert memory.free_bytes(root) == 100070
    (root / "sys/fs/cgroup/memory/job/memory.usage_in_bytes").write_text("4100000")
    assert memory.free_bytes(root) == 0


def test_machine_that_tells_nothing(tmp_path):
    assert memory.free_bytes(tmp_path) is None


def test_this_machine():
    assert 10**7 < memory.free_bytes() < 10**14


def test_limit_of_the_address_space():
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9)); "
        "from glc_jax import memory; print(memory.free_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 10**9 < int(done.stdout) < 2 * 10**9


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("512m", 512 * 10**6),
        ("2T", 2 * 10**12),
        (12, 12),
    ],
)
def test_amounts(text, size):
    assert memory.parse(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4PB", "0", "4 G B", "nan", "1e3"])
def test_no_amounts(text):
    with pytest.raises(InputError, match="no amount of memory"):
        memory.parse(text)


class Resting(engines.OnXLA):
    """XLA that notes when it is told to rest."""

    def __init__(self):
        super().__init__()
        self.rests = self.forgets = 0

    def rest(self):
        self.rests += 1

    def forget(self):
        self.forgets += 1


def test_memory_is_kept_between_pictures_where_it_is_a_small_part(loaded, monkeypatch):
    engine = Resting()
    monkeypatch.setattr(engines, "choose", lambda name, fast: engine)
    made = codec.Codec(loaded)._autoencoder()
    small, other = small_model.picture(16, 32), small_model.picture(32, 16)
    needed = memory.needed_bytes(small_model.MODEL, 16, 32, "compress")
    roomy = autoencoder.KEPT_SHARE * needed

    made.encode(small, roomy)
    made.encode(small, roomy)
    assert engine.rests == 0
    made.encode(other, roomy)  # what another size holds goes first
    assert engine.rests == 1
    latent = made.encode(other, roomy - 1)
    assert engine.rests == 2
    made.encode(other, None)
    assert engine.rests == 3

    both = memory.needed_bytes(small_model.MODEL, 32, 16, "decompress") + needed
    both *= autoencoder.KEPT_SHARE
    made.generate(latent, 32, 16, both)
    made.encode(other, both)
    made.generate(latent, 30, 15, both)
    made.encode(other, both)
    assert engine.rests == 3
    made.generate(latent, 32, 16, both - 1)
    assert engine.rests == 4
    monkeypatch.setattr(autoencoder, "AT_ONCE", 0)
    made.generate(latent, 32, 16, both)  # tile by tile
    assert engine.rests > 5


def test_programs_of_tiles_go_when_the_other_network_comes(loaded, monkeypatch):
    engine = Resting()
    monkeypatch.setattr(engines, "choose", lambda name, fast: engine)
    monkeypatch.setattr(autoencoder, "AT_ONCE", 0)
    made, picture = codec.Codec(loaded)._autoencoder(), small_model.picture(16, 32)
    latent = made.encode(picture)
    made.encode(picture)
    assert engine.forgets == 1
    made.generate(latent, 16, 32)
    made.generate(latent, 16, 32)
    assert engine.forgets == 2
    made.encode(picture)
    assert engine.forgets == 3


class Programs(Resting):
    """XLA, as if its programs took memory."""

    def __init__(self, one: int, kept: int) -> None:
        super().__init__()
        self.one, self.kept, self.most = one, kept, []

    def keep(self, most):
        self.most.append(most)
        return self.kept

    def program_bytes(self, stages, weight_bytes):
        assert stages > 10
        assert weight_bytes > 1000
        return self.one


@pytest.mark.parametrize(("one", "kept"), [(10**6, 0), (0, 10**6)])
def test_programs_count_where_a_picture_is_handled_at_once(loaded, monkeypatch, one, kept):
    engine, plans = Programs(one, kept), []
    monkeypatch.setattr(engines, "choose", lambda name, fast: engine)
    made, picture = codec.Codec(loaded)._autoencoder(), small_model.picture(16, 32)
    chosen = autoencoder.choose
    monkeypatch.setattr(autoencoder, "choose", lambda *how: plans.append(how[-1]) or chosen(*how))
    needed = memory.needed_bytes(small_model.MODEL, 16, 32, "compress")
    made.encode(picture, needed + 10**6)
    assert not plans
    assert engine.most == [(needed + 10**6) // autoencoder.PROGRAMS_SHARE]
    made.encode(picture, needed + 10**6 - 1)  # tile by tile
    assert plans[0] == needed + 10**6 - 1 - kept - memory.PICTURE_BYTES * 16 * 32


def test_where_the_limit_is_near_no_program_of_tiles_stays_while_latents_are_coded(
    loaded, monkeypatch
):
    engine = Resting()
    monkeypatch.setattr(engines, "choose", lambda name, fast: engine)
    monkeypatch.setattr(autoencoder, "AT_ONCE", 0)
    made, picture = codec.Codec(loaded)._autoencoder(), small_model.picture(256, 256)
    least = plan.plans(made._encoder.chain, 256, 256)[-1].bytes + memory.PICTURE_BYTES * 256 * 256
    made.encode(picture, 10**9)
    assert engine.forgets == 1  # before the first
    made.encode(picture, least)
    assert engine.forgets == 2


def test_what_is_kept_for_another_picture_goes_before_one_is_refused(loaded, monkeypatch):
    engine = Resting()
    monkeypatch.setattr(engines, "choose", lambda name, fast: engine)
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**9 if engine.rests > 1 else 1000)
    made = codec.Codec(loaded)
    made._autoencoder().encode(small_model.picture(16, 32), 10**9)
    assert engine.rests == 0
    engine.rests = 1
    assert made.compress(small_model.picture(48, 64))
    assert engine.rests >= 2
