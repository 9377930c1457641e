"""What a model wants to be told: its features, in the order of its columns."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from registry.errors import BundleError
from scoring import ModelText

Role = Literal["context", "activity", "derived"]
Type = Literal["number", "integer", "boolean", "category"]
Value = str | bool | int | float

# MLflow's column types; binary and datetime columns are nothing that a tree can split on.
_TYPES: Mapping[str, Type] = {
    "double": "number",
    "float": "number",
    "integer": "integer",
    "long": "integer",
    "boolean": "boolean",
    "string": "category",
}


@dataclass(frozen=True)
class Feature:
    """One column of a model. *context* is the same for all candidates of a request, *activity* belongs to one.

    *derived* comes from the visitor's history: callers never send it, and the service computes it by its name.
    In a row a category is its index in `categories`, a boolean is 0.0 or 1.0, and whatever is missing or a category
    that the model never saw is NaN. `categories` is None for every other type. Raises `ValueError` when they disagree.
    """

    name: str
    role: Role
    type: Type
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a feature has no name")
        if (self.type == "category") != (self.categories is not None):
            raise ValueError(f"feature {self.name!r} is a {self.type} and its categories are {self.categories}")
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise ValueError(f"feature {self.name!r} has {len(self.categories)} categories and some of them twice")

    def encode(self, value: Value | None) -> float:
        """What stands in a row for `value`; raises `ValueError` when the value is not of the feature's type."""
        if value is None:
            return math.nan
        if self.categories is not None and isinstance(value, str):
            return float(self.categories.index(value)) if value in self.categories else math.nan
        if self.type == "boolean" and isinstance(value, bool):
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
            if self.type == "number" or (self.type == "integer" and number.is_integer()):
                return number
        raise ValueError(f"feature {self.name!r} is a {self.type} and {value!r} is not")

    def decode(self, number: float) -> Value | None:
        """The value that stands in a row as `number`; None for missing."""
        if math.isnan(number):
            return None
        if self.categories is not None:
            return self.categories[int(number)]
        if self.type == "boolean":
            return number != 0
        return int(number) if self.type == "integer" and number.is_integer() else number


def read_features(document: bytes) -> tuple[Feature, ...]:
    """Features from the JSON list of them (`features.json`); raises `BundleError`."""
    try:
        return msgspec.json.decode(document, type=tuple[Feature, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"features.json: {error}") from error


def check_features(features: Sequence[Feature], text: ModelText) -> None:
    """Raise `BundleError` unless the features are those of the model: names, order and categories.

    A model that was trained without names (`Column_0`, `Column_1`, ...) takes any.
    """
    if len(features) != text.features:
        raise BundleError(f"the model has {text.features} features and the feature list {len(features)}")
    if len({feature.name for feature in features}) != len(features):
        raise BundleError(f"the {len(features)} features do not have {len(features)} different names")
    if not _nameless(text):
        for place, (feature, name) in enumerate(zip(features, text.feature_names, strict=True)):
            if feature.name != name:
                raise BundleError(f"feature {place} is {name!r} in the model and {feature.name!r} in the feature list")
    _check_categories(features, text)


def foreign_features(text: ModelText, inputs: Sequence[Mapping[str, Any]] | None) -> tuple[Feature, ...]:
    """The features of a model that was logged without a feature list; every role is activity.

    `inputs` are the columns of its MLflow signature (`[{"name": "price", "type": "double"}, ...]`), None where it has
    none or one of tensors. Raises `BundleError` where signature and booster contradict each other.
    """
    columns = _columns(text, inputs)
    categories = _assign_categories(text, [kind for _, kind in columns])
    features = tuple(
        Feature(name, "activity", "category" if place in categories else kind, categories.get(place))
        for place, (name, kind) in enumerate(columns)
    )
    check_features(features, text)
    return features


def _nameless(text: ModelText) -> bool:
    return text.feature_names == tuple(f"Column_{place}" for place in range(text.features))


def _check_categories(features: Sequence[Feature], text: ModelText) -> None:
    """The booster's own categories, where it has any, are those of the category features, in the order of columns."""
    named = [feature for feature in features if feature.categories is not None]
    lists = [_category_texts(values) for values in text.pandas_categorical or ()]
    if lists and len(lists) != len(named):
        raise BundleError(f"the model has {len(lists)} lists of categories and the feature list {len(named)}")
    for feature, categories in zip(named, lists, strict=False):
        if feature.categories != categories:
            raise BundleError(
                f"categories of feature {feature.name!r} are {_shown(categories)} in the model and "
                f"{_shown(feature.categories or ())} in the feature list"
            )
    for feature, info in zip(features, text.feature_infos, strict=True):
        known = _known_codes(info)
        if feature.categories is not None and known and max(known) >= len(feature.categories):
            raise BundleError(
                f"feature {feature.name!r} has {len(feature.categories)} categories and the model "
                f"was trained with category {max(known)} of it (they count from 0)"
            )


def _columns(text: ModelText, inputs: Sequence[Mapping[str, Any]] | None) -> list[tuple[str, Type]]:
    """Name and type of each column of the model, in its order."""
    if not inputs or any("name" not in column for column in inputs):
        return [(name, "number") for name in text.feature_names]
    named = [(str(column["name"]), _type(column)) for column in inputs]
    if _nameless(text) and len(named) == text.features:
        return named
    # LightGBM writes a space in a name as an underscore
    types = {name.replace(" ", "_"): kind for name, kind in named}
    missing = [name for name in text.feature_names if name not in types]
    if missing:
        raise BundleError(
            f"the MLflow signature lacks feature {missing[0]!r} of the model ({len(missing)} are missing)"
        )
    return [(name, types[name]) for name in text.feature_names]


def _type(column: Mapping[str, Any]) -> Type:
    kind = column.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        allowed = ", ".join(_TYPES)
        raise BundleError(f"column {column['name']!r} of the MLflow signature is {kind!r}; allowed is {allowed}")
    return _TYPES[kind]


def _assign_categories(text: ModelText, types: Sequence[Type]) -> dict[int, tuple[str, ...]]:
    """Column -> categories. The booster keeps lists of categories in the order of columns but not whose they are."""
    lists = [_category_texts(values) for values in text.pandas_categorical or ()]
    texts = [place for place, kind in enumerate(types) if kind == "category"]
    for places in (sorted({*texts, *_categorical_columns(text)}), texts):
        if len(places) == len(lists):
            return dict(zip(places, lists, strict=True))
    if not lists and not texts:
        return {}  # categories that were numbers from the start: the caller sends the number
    raise BundleError(
        f"the model has {len(lists)} lists of categories, and columns that could hold them are "
        f"{', '.join(text.feature_names[place] for place in texts) or 'none'}; "
        "log the model with frontrow/features.json (docs/registry.md)"
    )


def _categorical_columns(text: ModelText) -> Iterator[int]:
    for place, info in enumerate(text.feature_infos):
        if _known_codes(info):
            yield place
    # a column that no split could use has no info, but the training parameters still name it
    for number in text.parameters.get("categorical_feature", "").split(","):
        if number.isdecimal() and int(number) < text.features:
            yield int(number)


def _known_codes(info: str) -> list[int]:
    """Category codes that training saw, from the model's `feature_infos`: `-1:2:0:1`; a number has `[0.5:9]`."""
    return [] if info == "none" or info.startswith("[") else [int(code) for code in info.split(":")]


def _category_texts(values: Sequence[Any]) -> tuple[str, ...]:
    """Categories as callers send them. JSON's spelling is used for what is no text: 3, 1.5, true."""
    return tuple(category_text(value) for value in values)


def category_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _shown(categories: Sequence[str]) -> str:
    return f"[{', '.join(categories[:4])}{', ...' if len(categories) > 4 else ''}] ({len(categories)})"
