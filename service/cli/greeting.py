"""What `run` prints once the service answers: where, with which key, and something to paste."""

from pathlib import Path


def greeting(url: str, key: str, logs: Path) -> str:
    return f"""
The service is ready.

  URL      {url}    (try {url}/docs)
  API key  {key}
  Logs     {logs}

Make a collection, put a document into it and find it:

{first_request(url, key)}

Ctrl-C stops it; `make run` starts it again with the same data and the same key."""


def first_request(url: str, key: str) -> str:
    """One curl to paste as it stands, as often as one likes: three requests over one connection."""
    common = f"-sS -w '\\n' -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
    document = '{"title": "Bears in winter", "text": "A brown bear sleeps through the cold months in its den."}'
    return " \\\n  ".join(
        [
            f"""curl {common} {url}/v1/collections -d '{{"name": "first"}}'""",
            f"""--next {common} -X PUT '{url}/v1/collections/first/documents/bears?wait=10' -d '{document}'""",
            f"""--next {common} {url}/v1/collections/first/search -d '{{"query": "how do bears sleep in winter?"}}'""",
        ]
    )
