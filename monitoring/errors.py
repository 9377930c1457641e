"""What the commands of this room say in one line."""


class MonitoringError(Exception):
    """Something that was asked of a log or a profile cannot be told from it."""


class ProfileError(MonitoringError):
    """A bundle's profile does not belong to its model. Names the feature and what is wrong with it."""


class ReplayError(MonitoringError):
    """A logged ranking cannot be made again on the model. Names the request and the feature."""


class ExperimentError(MonitoringError):
    """There is nothing to analyze. Says what was looked for."""
