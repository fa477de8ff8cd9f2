"""mailtls-nb: runbooks for STARTTLS with a private certificate authority on sendmail."""

__version__ = "0.1.0"
