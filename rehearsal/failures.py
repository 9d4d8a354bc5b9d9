"""What stops a rehearsal: the message is all that the user reads."""


class RehearsalError(Exception):
    """Something that is needed is not there, or a step did not do what a step must do."""
