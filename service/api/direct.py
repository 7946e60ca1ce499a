"""Routes whose endpoints read the request themselves."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class DirectRoute(APIRoute):
    """Documented by FastAPI, and answered without its work on parameters and answers.

    The endpoint, and the dependencies of its router before it, are coroutines that take the request alone,
    and the endpoint answers with a Response. FastAPI takes 0.2 ms to find that out each time.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        checks = [depends.dependency for depends in self.dependencies if depends.dependency]

        async def handle(request: Request) -> Response:
            for check in checks:
                await check(request)
            response: Response = await self.endpoint(request)
            return response

        return handle
