"""The parts of 03-trust-partner."""
