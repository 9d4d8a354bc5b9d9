"""OpenVINO without its telemetry: importing it would tell its maker so over the network, unasked, and write to the home.

It works as well where the package that does so cannot be imported. Nothing else imports openvino (a test looks).
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's way to say: as if it were not installed.

import openvino  # noqa: E402
from openvino import Node, opset13  # noqa: E402

__all__ = ["Node", "openvino", "opset13"]
