"""09-replace-ca, part by part."""
