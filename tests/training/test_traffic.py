"""What programs send between devices."""

from glc_jax.training.traffic import Sent, sent_by_a_device, traffic

HLO = """HloModule jit_step, num_partitions=8

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(f32[] %x, f32[] %y)
}

%body (p: (s32[], f32[10])) -> (s32[], f32[10]) {
  %all-reduce.1 = f32[10]{0} all-reduce(f32[10]{0} %x), replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %tuple = (s32[], f32[10]{0}) tuple(%i, %all-reduce.1)
}

%branch (p: f32[4]) -> f32[8] {
  ROOT %all-gather = bf16[8]{0} all-gather(bf16[4]{0} %p), dimensions={0}
}

ENTRY %main.7_spmd (p0: f32[2,3], p1: pred[]) -> f32[2,3] {
  %all-reduce-start = (f32[2,3]{1,0}, pred[]) all-reduce-start(%p0, %p1), to_apply=%add
  %all-reduce-done = (f32[2,3]{1,0}, pred[]) all-reduce-done(%all-reduce-start)
  %w = (s32[], f32[10]) while(%t), body=%body, backend_config={"known_trip_count":{"n":"4"}}
  %c = bf16[8]{0} conditional(%p1, %a, %b), branch_computations={%branch, %branch}
  ROOT %done = f32[2,3]{1,0} copy(%p0)
}
"""


def test_a_collective_counts_as_often_as_it_runs():
    found = traffic(HLO)
    assert found == {
        "all-reduce": Sent(1 + 4, 2 * 3 * 4 + 1 + 4 * 10 * 4),
        "all-gather": Sent(2, 32),
    }
    expected = 7 / 8 * (2 * found["all-reduce"].bytes + found["all-gather"].bytes)
    assert sent_by_a_device(found, 8) == expected


def test_what_stays_on_one_device_sends_nothing():
    assert traffic("ENTRY %main (x: f32[]) -> f32[] {\n  ROOT %x = f32[] parameter(0)\n}") == {}
