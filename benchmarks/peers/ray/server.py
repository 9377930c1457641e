"""Run by `python server.py PORT`."""

# mypy: ignore-errors
# It runs in an environment of its own, whose packages are not those that this house is checked with.

import signal
import sys
from typing import Any

import ray
from ray import serve
from reference_model import ReferenceModel
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=128)
class Ranker:
    def __init__(self) -> None:
        self.model = ReferenceModel()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def rank(self, requests: list[dict[str, Any]]) -> list[list[float]]:
        return self.model.score_each([self.model.rows_of(request) for request in requests])

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        return {"scores": await self.rank(await request.json())}


if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=2, logging_level="warning")
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    serve.run(Ranker.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
