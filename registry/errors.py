"""What the registry room refuses, by name. A message is one line for an operator: what was tried, what to do."""


class RegistryError(Exception):
    """There is no model to serve."""


class BundleError(RegistryError):
    """What was asked for must not be served as it is. Trying again does not help; somebody has to change something."""


class BundleExistsError(BundleError):
    """There is something at the place where the bundle should be written. Nothing was changed."""


class ModelNotFound(BundleError):
    """The registry answered, and it has no such model, version or alias."""


class ModelURIError(BundleError):
    """The text names no model in any way that is understood."""


class RegistryUnavailable(RegistryError):
    """The registry could not be asked and nothing verified earlier can stand in. Trying again may help."""
