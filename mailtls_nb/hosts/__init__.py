"""Hosts: the machines that runbooks look at and change."""

from mailtls_nb.hosts.opening import open_host

__all__ = ["open_host"]
