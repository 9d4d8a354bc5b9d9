"""Five queries that show what the service can do, each on documents where it shows."""

from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from service.cli.client import Json, ServiceClient
from service.cli.questions import Question
from service.cli.search import print_hits

COLLECTION = "python-docs"
SHOWN = 3  # Hits of each: the whole tour is some screens long.
PASSAGE = 120  # Characters of each hit's text.


@dataclass(frozen=True)
class Stop:
    """What to look at, and the questions that show it: one, or two to compare."""

    title: str
    questions: tuple[Question, ...]


TOUR = (
    Stop(
        "A filter on attributes: functions only, and none that is deprecated.",
        (
            Question(
                query="copy a directory tree",
                collection=COLLECTION,
                conditions=("kind=function", "deprecated=false"),
                limit=SHOWN,
            ),
        ),
    ),
    Stop(
        "A phrase: words may be anywhere and any of them may be missing; in quotes they must stand together.",
        (
            Question(query="parse command line", collection=COLLECTION, conditions=("deprecated=false",), limit=SHOWN),
            Question(
                query='parse "command line"', collection=COLLECTION, conditions=("deprecated=false",), limit=SHOWN
            ),
        ),
    ),
    Stop(
        "Meaning against words: what answers this best has none of its words.",
        (
            Question(query="secure unpredictable passwords", collection=COLLECTION, mode="lexical", limit=SHOWN),
            Question(query="secure unpredictable passwords", collection=COLLECTION, mode="semantic", limit=SHOWN),
        ),
    ),
    Stop(
        "Grouping: every passage that matches, or each document once with its best one (the default).",
        (
            Question(query="mock an async function", collection=COLLECTION, group_by="none", limit=SHOWN),
            Question(query="mock an async function", collection=COLLECTION, limit=SHOWN),
        ),
    ),
    Stop(
        "A filter on a list of tags: only what is awaited.",
        (Question(query="read the next line", collection=COLLECTION, conditions=("tags=async",), limit=SHOWN),),
    ),
)


async def ask_all(client: ServiceClient) -> list[Json]:
    """The answers in the order of the tour."""
    return [await question.ask(client) for stop in TOUR for question in stop.questions]


def print_tour(console: Console, answers: list[Json]) -> None:
    """Each stop with its questions as lines to paste, and what they bring."""
    left = iter(answers)
    for number, stop in enumerate(TOUR, start=1):
        console.print(Text(f"\n{number}. {stop.title}", "bold"))
        for question in stop.questions:
            console.print(f"\n{question.to_command()}\n", style="cyan", markup=False, soft_wrap=True)
            print_hits(console, next(left), query=question.query, length=PASSAGE)
