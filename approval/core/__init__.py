"""Values and pure functions: policy, the life of a call, the trail. No I/O, no clock, no async."""
