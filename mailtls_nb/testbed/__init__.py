"""The testbed: three containers with Debian's sendmail, relay, partner and stranger of example.test."""

from mailtls_nb.testbed.testbed import HOSTS, HostState, Testbed

__all__ = ["HOSTS", "HostState", "Testbed"]
