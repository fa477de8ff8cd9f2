"""The parts of 04-enforce-access."""
