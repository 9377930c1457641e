"""Which model: find it in MLflow, verify it, keep it on disk as a bundle, and load it."""

from registry.bundle import Bundle, read_bundle, write_bundle
from registry.errors import (
    BundleError,
    BundleExistsError,
    ModelNotFound,
    ModelURIError,
    RegistryError,
    RegistryUnavailable,
)
from registry.fetch import Fetched, fetch, fetch_all
from registry.golden import Golden
from registry.model import Model, load_model
from registry.revision import code_revision
from registry.signature import Feature, Value

__all__ = [
    "Bundle",
    "BundleError",
    "BundleExistsError",
    "Feature",
    "Fetched",
    "Golden",
    "Model",
    "ModelNotFound",
    "ModelURIError",
    "RegistryError",
    "RegistryUnavailable",
    "Value",
    "code_revision",
    "fetch",
    "fetch_all",
    "load_model",
    "read_bundle",
    "write_bundle",
]
