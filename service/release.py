"""Which release this is, and what it needs of a database."""

RELEASE = "0.3.0"

# The newest migration that this release cannot run without. It is looked for at every start.
NEEDS = "c3e8a2570b16"
