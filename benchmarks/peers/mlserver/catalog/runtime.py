"""A runtime for ids: `context` (requests, context features) and `ids` (requests, candidates) give one score an id."""

# mypy: ignore-errors
# It runs in an environment of its own, whose packages are not those that this house is checked with.

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from reference_model import ReferenceModel


class KnownActivities(MLModel):
    async def load(self) -> bool:
        self.model = ReferenceModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensors = {tensor.name: tensor for tensor in payload.inputs}
        contexts = NumpyCodec.decode_input(tensors["context"])
        ids = np.array(tensors["ids"].data.root).reshape(tensors["ids"].shape)
        rows = [self.model.known(context, row) for context, row in zip(contexts, ids.tolist(), strict=True)]
        scores = np.array(self.model.score_each(rows))
        output = NumpyCodec.encode_output("predict", scores)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
