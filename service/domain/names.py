"""What things may be called."""

import re

COLLECTION_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,62}")
EXTERNAL_ID_LENGTH = 512
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
