"""What is known about activities and visitors."""

from features.catalog import Catalog, CatalogError

__all__ = ["Catalog", "CatalogError"]
