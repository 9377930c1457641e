"""Run by `python server.py --port PORT`."""

# mypy: ignore-errors
# It runs in an environment of its own, whose packages are not those that this house is checked with.

from typing import Any

from mosec import Server, Worker
from reference_model import ReferenceModel


class Ranker(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.model = ReferenceModel()

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, list[float]]]:
        each = self.model.score_each([self.model.rows_of(request) for request in data])
        return [{"scores": scores} for scores in each]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Ranker, num=1, max_batch_size=64, max_wait_time=1)
    server.run()
