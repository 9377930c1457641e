"""What FastAPI hands to pages."""

from typing import Annotated

from fastapi import Depends, Request

from app.service import Service


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDependency = Annotated[Service, Depends(_service)]
