"""The command line: flags, their checks, and the request they make. Loads no torch."""
