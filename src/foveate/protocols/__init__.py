"""How a question is asked, and how the replies are read."""

from foveate.protocols.answers import extract_choice, parse_answer
from foveate.protocols.base import (
    Ask,
    Completion,
    FinishReason,
    Problem,
    Protocol,
    Stop,
    StopReason,
    Subject,
    Turn,
)
from foveate.protocols.count import PointThenCount
from foveate.protocols.direct import Direct
from foveate.protocols.ground import GroundAndAnswer, GroundThenAnswer, GroundUntilAnswered
from foveate.protocols.locate import LocateThenAnswer
from foveate.protocols.matching import is_right, yes_or_no
from foveate.protocols.parsing import ParsedBoxes, ParsedPoints, parse_boxes, parse_points
from foveate.protocols.zoom import ZoomTool

__all__ = [
    "Ask",
    "Completion",
    "Direct",
    "FinishReason",
    "GroundAndAnswer",
    "GroundThenAnswer",
    "GroundUntilAnswered",
    "LocateThenAnswer",
    "ParsedBoxes",
    "ParsedPoints",
    "PointThenCount",
    "Problem",
    "Protocol",
    "Stop",
    "StopReason",
    "Subject",
    "Turn",
    "ZoomTool",
    "extract_choice",
    "is_right",
    "parse_answer",
    "parse_boxes",
    "parse_points",
    "yes_or_no",
]
