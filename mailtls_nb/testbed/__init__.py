"""The testbed: three containers with Debian's sendmail, relay, partner and stranger of example.test, and guests."""

from mailtls_nb.testbed.testbed import GUESTS, HOSTS, HostState, Testbed

__all__ = ["GUESTS", "HOSTS", "HostState", "Testbed"]
