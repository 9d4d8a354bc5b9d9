"""What routes ask for that run many searches at once."""

from typing import Annotated

from fastapi import Depends, Request

from service.search.lane import Lane


async def get_lane(request: Request) -> Lane:
    lane: Lane = request.app.state.search_lane
    return lane


SearchLane = Annotated[Lane, Depends(get_lane)]
