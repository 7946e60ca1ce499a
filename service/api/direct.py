"""Routes whose endpoints read the request themselves."""

from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send


class DirectRoute(APIRoute):
    """Documented by FastAPI, and answered without its work on parameters and answers.

    The endpoint, and the dependencies of its router before it, are coroutines that take the request alone,
    and the endpoint answers with a Response. FastAPI takes 0.2 ms to find that out each time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._checks = [depends.dependency for depends in self.dependencies if depends.dependency]
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        for check in self._checks:
            await check(request)
        response: Response = await self.endpoint(request)
        await response(scope, receive, send)
