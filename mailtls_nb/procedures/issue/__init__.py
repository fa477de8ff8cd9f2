"""02-issue-certificate, in its three ways: put into service, sign a request only, work with a CA elsewhere."""
