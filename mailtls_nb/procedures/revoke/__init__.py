"""05-revoke-certificate, part by part."""
