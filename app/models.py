"""The models that the settings name, from wherever they are to memory."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.catalog_watch import Version, version_of
from app.derived import unknown_derived
from app.experiment import Variant
from app.settings import Settings
from features import DERIVED_BY_NAME, Catalog, CatalogError
from registry import BundleError, Fetched, Golden, Model, RegistryError, fetch_all, load_model


@dataclass(frozen=True)
class Served:
    """A variant's model, and where its bundle came from; `snapshot` is set when the catalog has a file of its own.

    Nothing of the bundle's folder is read any more, so another one may take its place.
    """

    fetched: Fetched
    model: Model
    catalog: Catalog
    golden: Golden
    snapshot: Version | None = None


def fetch_models(settings: Settings) -> dict[Variant, Fetched]:
    """The bundle folder of each variant. Raises `RegistryUnavailable` or `BundleError`."""
    return _fetch(asked_models(settings), settings)


def fetch_each(settings: Settings) -> dict[Variant, Fetched | RegistryError]:
    """The same, but what is wrong with one variant's model keeps nobody from the other's."""
    asked = asked_models(settings)
    try:
        return dict(_fetch(asked, settings))  # one child process asks for all, and mostly that is enough
    except RegistryError as error:
        if len(asked) == 1:
            return dict.fromkeys(asked, error)
    return {variant: _fetch_one(variant, uri, settings) for variant, uri in asked.items()}


def asked_models(settings: Settings) -> dict[Variant, str]:
    """The model URI of each variant that has one."""
    uris: dict[Variant, str] = {"control": settings.control_model, "treatment": settings.treatment_model}
    return {variant: uri for variant, uri in uris.items() if uri}


def _fetch_one(variant: Variant, uri: str, settings: Settings) -> Fetched | RegistryError:
    try:
        return _fetch({variant: uri}, settings)[variant]
    except RegistryError as error:
        return error


def _fetch(asked: Mapping[Variant, str], settings: Settings) -> dict[Variant, Fetched]:
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
    shared = None if settings.catalog is None else read_snapshot(settings.catalog)
    return {variant: load_one(one, settings, shared) for variant, one in fetched.items()}


def read_snapshot(path: Path) -> tuple[Version | None, Catalog]:
    """A catalog outside of any bundle. Raises `CatalogError`, also for one without activities: nobody means that."""
    version = version_of(path)
    catalog = Catalog.read(path)
    if not len(catalog):
        raise CatalogError(f"{path.name}: there are no activities in it")
    return version, catalog


def load_one(fetched: Fetched, settings: Settings, shared: tuple[Version | None, Catalog] | None) -> Served:
    """The verified model of a bundle, and its catalog unless there is a `shared` one. Raises as `load_models` does."""
    model = load_model(fetched.folder, settings.engine)
    if unknown := unknown_derived(model.bundle.features):
        raise BundleError(
            f"{model.bundle.name}/{model.bundle.version} was trained with the derived feature {unknown[0]!r}"
            f" ({len(unknown)} such), which this code does not have; {', '.join(DERIVED_BY_NAME)} are what it has"
        )
    golden = model.bundle.golden()
    if shared is not None:
        version, catalog = shared
        return Served(fetched, model, catalog, golden, version)
    snapshot = model.bundle.catalog
    return Served(fetched, model, Catalog.empty() if snapshot is None else Catalog.read(snapshot), golden)
