"""What ends one comparison and lets the others go on."""


class PeerError(Exception):
    """A peer could not be installed, started, filled or asked; the message says why, for whoever reads the report."""
