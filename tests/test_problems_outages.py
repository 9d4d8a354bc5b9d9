import httpx
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from tests.api_calls import Api, code
from tests.database_doors import as_admin, proxy


async def test_an_unexpected_error_is_a_500_that_tells_nothing(api: Api, settings: Settings) -> None:
    async with as_admin(settings) as admin:
        await admin.execute("revoke select on collections from hybrid_application")
        try:
            answer = await api.client.get("/v1/collections")
        finally:
            await admin.execute("grant select on collections to hybrid_application")

    assert code(answer) == (500, "internal")
    for secret in ("collections", "permission", "sql", "select"):
        assert secret not in answer.text.lower()
    assert (await api.client.get("/v1/collections")).status_code == 200


async def test_without_the_object_store_files_are_refused_and_text_is_not(
    settings: Settings, api: Api, collection: str
) -> None:
    app = create_app(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))
    async with app.router.lifespan_context(app), client_of(app, api) as broken:
        url = f"/v1/collections/{collection}/documents"
        file = await broken.post(url, content=b"x", headers={"Content-Type": "text/plain"})
        assert code(file) == (503, "unavailable")
        assert int(file.headers["retry-after"]) > 0
        assert (await broken.post(url, json={"text": "x"})).status_code == 202
        assert code(await broken.get("/readyz")) == (503, "unavailable")
        assert (await broken.get("/livez")).status_code == 200


async def test_without_the_database_nobody_is_told_that_their_key_is_wrong(settings: Settings, api: Api) -> None:
    url = httpx.URL(settings.database_url.get_secret_value())
    async with proxy(url.port or 5432) as (port, cut):
        beyond = settings.database_url.__class__(str(url.copy_with(port=port)))
        app = create_app(settings.model_copy(update={"database_url": beyond}))
        async with app.router.lifespan_context(app), client_of(app, api) as client:
            assert (await client.get("/v1/collections")).status_code == 200
            await cut()
            app.state.keys._known.clear()
            answers = [await client.get(path) for path in ("/v1/collections", "/readyz")]

    for answer in answers:
        assert code(answer) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0


def client_of(app: FastAPI, api: Api) -> httpx.AsyncClient:
    headers = {"Authorization": api.client.headers["Authorization"]}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", headers=headers)
