"""Run by `python server.py PORT`."""

# mypy: ignore-errors
# It runs in an environment of its own, whose packages are not those that this house is checked with.

import sys
from typing import Any

import litserve
from numpy.typing import NDArray
from reference_model import ReferenceModel


class Ranker(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = ReferenceModel()

    def decode_request(self, request: dict[str, Any]) -> NDArray[Any]:
        return self.model.rows_of(request)

    def batch(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return inputs

    def predict(self, x: list[NDArray[Any]]) -> list[list[float]]:
        return self.model.score_each(x)

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        return {"scores": output}


if __name__ == "__main__":
    ranker = Ranker(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(ranker, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False, access_log=False
    )
