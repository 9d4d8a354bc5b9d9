"""`service run` over stand-ins for the API and the worker, so that the tests of the supervisor need no schema."""

import sys
from pathlib import Path

from service.cli.foreground import Service, run_service
from service.local.stack import Stack

CHILDREN = Path(__file__).with_name("run_stand_in_children.py")


async def prepare(stack: Stack) -> dict[str, str]:
    if not stack.api_key:
        stack.folder.keep("api_key", stack.folder.secret("made_key"))
    return {"DATABASE_URL": stack.postgres.url()}


if __name__ == "__main__":
    service = Service(prepare=prepare, command=(sys.executable, "-S", str(CHILDREN)))
    sys.exit(run_service(Path(sys.argv[1]), service, host="127.0.0.1", port=int(sys.argv[2])))
