"""From the table of routes to an application, and to the document that describes it."""

import math
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from shore import __version__
from shore.coordination.database import NoDatabase
from shore.coordination.mesh import Mesh
from shore.coordination.rest import keys, nodes, policies, status, tokens
from shore.coordination.rest.door import Door, body_of
from shore.coordination.rest.route import Asked, Route, Wrong
from shore.wire.policy import Complaint, Refusal
from shore.wire.server import ROUTE

ROUTES: tuple[Route, ...] = (*status.ROUTES, *tokens.ROUTES, *nodes.ROUTES, *policies.ROUTES, *keys.ROUTES)
Endpoint = Callable[[Request], Awaitable[Response]]
SCHEMAS = "#/components/schemas/{name}"


def application(mesh: Mesh) -> FastAPI:
    """Everything under /api/v1."""
    door = Door(mesh.repository.keyring)
    return _application(lambda route: _endpoint(route, mesh, door))


def document() -> dict[str, Any]:
    """What describes it (docs/openapi.json)."""

    async def nobody_asks(request: Request) -> Response:
        raise NotImplementedError

    return _application(lambda _: nobody_asks).openapi()


def _application(endpoint: Callable[[Route], Endpoint]) -> FastAPI:
    app = FastAPI(
        title="Shore coordination server",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        exception_handlers={HTTPException: _not_there},
    )
    types: list[type[msgspec.Struct]] = [
        kind for route in ROUTES for kind in (route.takes, route.gives) if kind is not None
    ]
    shapes, components = msgspec.json.schema_components([Refusal, *types], ref_template=SCHEMAS)
    shape: dict[type[msgspec.Struct], dict[str, Any]] = dict(zip([Refusal, *types], shapes, strict=True))
    for route in ROUTES:
        app.add_api_route(
            ROUTE + route.path,
            endpoint(route),
            methods=[route.method],
            operation_id=route.does.__name__,
            summary=route.does.__doc__,
            response_model=None,
            openapi_extra=_described(route, shape),
        )
    described = app.openapi()
    described.setdefault("components", {})["schemas"] = components
    return app


def _endpoint(route: Route, mesh: Mesh, door: Door) -> Endpoint:
    async def respond(request: Request) -> Response:
        try:
            now = time.time()
            who = await door.who_asks(request, route.right, now)
            body = await body_of(request)
            taken = None if route.takes is None else msgspec.json.decode(body or b"{}", type=route.takes)
            asked = Asked(mesh, who, taken, request.path_params, request.query_params, now)
            return _said(200, await route.does(asked))
        except Wrong as error:
            answer = _said(error.status, Refusal(error.complaint))
            if error.again_in is not None:
                answer.headers["Retry-After"] = str(max(1, math.ceil(error.again_in)))
            return answer
        except NoDatabase as error:
            return _said(503, Refusal(Complaint(str(error))))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _said(422, Refusal(Complaint(f"the request cannot be read: {error}")))

    return respond


def _said(code: int, what: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(what), code, media_type="application/json")


async def _not_there(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = "there is no such route: see docs/openapi.json" if error.status_code == 404 else error.detail
    return _said(error.status_code, Refusal(Complaint(sentence)))


def _described(route: Route, shape: dict[type[msgspec.Struct], dict[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "x-right": route.right,
        "parameters": [*_parameters(route)],
        "responses": {
            "200": {"description": "Done.", "content": _json(shape[route.gives])},
            "4XX": {"description": "It cannot be done.", "content": _json(shape[Refusal])},
        },
    }
    if route.takes is not None:
        said["requestBody"] = {"required": True, "content": _json(shape[route.takes])}
    return said


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    for piece in route.path.split("/"):
        if piece.startswith("{"):
            yield {"name": piece[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
    for name in route.query:
        yield {"name": name, "in": "query", "schema": {"type": "boolean", "default": False}}


def _json(shape: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": shape}}
