"""Which release this is, and what it needs of a database."""

RELEASE = "0.4.0"

# The newest migration that this release cannot run without. It is looked for at every start.
NEEDS = "e5a1b27c9d38"
