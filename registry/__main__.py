"""`python -m registry`: the child process in which `registry.fetch` speaks to MLflow."""

from registry.mlflow_source import main

main()
