"""The models that the settings name, from wherever they are to memory."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from app.experiment import Variant
from app.settings import Settings
from features import Catalog
from registry import BundleError, Fetched, Model, fetch_all, load_model


@dataclass(frozen=True)
class Served:
    """A variant's model, and where its bundle came from."""

    fetched: Fetched
    model: Model
    catalog: Catalog


def fetch_models(settings: Settings) -> dict[Variant, Fetched]:
    """The bundle folder of each variant. Raises `RegistryUnavailable` or `BundleError`."""
    uris: dict[Variant, str] = {"control": settings.control_model, "treatment": settings.treatment_model}
    asked = {variant: uri for variant, uri in uris.items() if uri}
    fetched = fetch_all(
        list(asked.values()),
        cache=settings.bundle_cache,
        tracking_uri=settings.tracking_uri,
        timeout_seconds=settings.registry_timeout_seconds,
    )
    return dict(zip(asked, fetched, strict=True))


def warm_up(settings: Settings) -> None:
    """Load any bundle of the cache, for the compiled kernels that come with the first model: they take a second."""
    for description in settings.bundle_cache.glob("*/*/bundle.json"):
        with suppress(BundleError):
            load_model(description.parent, settings.engine)
            return


def load_models(settings: Settings, fetched: Mapping[Variant, Fetched]) -> dict[Variant, Served]:
    """The verified model and the catalog of each variant. Raises `BundleError` or `CatalogError`."""
    return {variant: _load(one, settings) for variant, one in fetched.items()}


def _load(fetched: Fetched, settings: Settings) -> Served:
    model = load_model(fetched.folder, settings.engine)
    snapshot = model.bundle.catalog
    return Served(fetched, model, Catalog.empty() if snapshot is None else Catalog.read(snapshot))
