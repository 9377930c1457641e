"""Training: a ranking table in, a registered model with everything needed to serve and verify it out."""

import os

# MLflow reads this when it is imported, which happens below here: a training job reports to its own registry only.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
