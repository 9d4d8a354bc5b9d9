"""Which release this is, and what it needs of a database."""

RELEASE = "0.2.0"

# The newest migration that this release cannot run without. It is looked for at every start.
NEEDS = "a31f5c0e7d42"
