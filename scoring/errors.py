"""What scoring refuses, by name. `ModelTextError` lives with the parser that raises it."""


class RowsError(ValueError):
    """The rows are not what the engine reads: dtype, layout or width. Nothing was scored."""


class NotCompilableError(ValueError):
    """The compiled engine cannot serve the model; the message says which fact of it is in the way."""


class StaleTablesError(ValueError):
    """The file does not hold the tables of this model in this format. Build them again."""


class VerificationError(NotCompilableError):
    """The compiled engine and the reference engine disagree on a row, which the message tells. It must not serve."""
