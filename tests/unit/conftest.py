"""The profile for `make fuzz`: the property tests of this directory, run for longer."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=5000, deadline=None)
