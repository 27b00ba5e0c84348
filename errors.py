"""The two ways in which nothing can be measured; each is one line and an exit code."""


class RequestError(ValueError):
    """The request itself is wrong (exit code 2)."""


class CannotRun(RuntimeError):
    """The request is fine, but this machine can't serve it (exit code 3)."""
