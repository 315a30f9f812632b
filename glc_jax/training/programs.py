"""What a compiled program costs, as XLA counts it."""

from typing import Any


def program_flops(compiled: Any) -> float:
    """Floating-point operations of one run on each device; 0 where the compiler does not say."""
    costs = compiled.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    return float((costs or {}).get("flops", 0.0))


def program_memory(compiled: Any) -> int:
    """Bytes that one run holds at once on each device, arguments and results included."""
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return held + memory.temp_size_in_bytes - memory.alias_size_in_bytes
