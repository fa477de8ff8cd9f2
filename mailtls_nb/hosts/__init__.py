"""Hosts: the machines that runbooks look at and change."""
