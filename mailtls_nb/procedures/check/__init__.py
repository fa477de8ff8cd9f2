"""07-check-host, part by part."""
