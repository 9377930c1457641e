"""What a release refuses, by name. A message is one line for an operator: what was found, what to do."""


class ReleaseError(Exception):
    """The release cannot go on. Nothing that runs was changed."""


class FlagError(ReleaseError):
    """The flags of a commit message are unknown, malformed or contradict each other."""


class CommitError(ReleaseError):
    """Git does not know the commit, or there is no git repository here."""


class HistoryError(ReleaseError):
    """The record of releases cannot be read, or does not hold what is asked of it."""


class ToolError(ReleaseError):
    """A program that the release runs is missing or failed; the message has its last words."""
