"""What the registry room refuses, by name. Every message is one line for an operator: what was tried, and what to do."""


class RegistryError(Exception):
    """There is no model to serve."""


class BundleError(RegistryError):
    """What was asked for must not be served as it is. Trying again does not help; somebody has to change something."""


class BundleExistsError(BundleError):
    """There is something at the place where the bundle should be written. Nothing was changed."""


class ModelNotFound(BundleError):  # noqa: N818 named like RegistryUnavailable: what is the case
    """The registry answered, and it has no such model, version or alias."""


class ModelURIError(BundleError):
    """The text names no model in any way that is understood."""


class RegistryUnavailable(RegistryError):  # noqa: N818 the name is part of the house's contract
    """The registry could not be asked and nothing verified earlier can stand in. Trying again may help."""
