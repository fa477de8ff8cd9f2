"""06-renew-certificate: the certificates in service on a host replaced in time, by the ways of 02."""
