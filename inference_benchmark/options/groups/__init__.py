"""The groups of flags, as --help shows them: a file each."""
