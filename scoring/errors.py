"""What scoring refuses, by name. `ModelTextError` lives with the parser that raises it."""


class RowsError(ValueError):
    """The rows are not a C-contiguous float64 matrix with one column for each feature. Nothing was scored."""


class NotCompilableError(ValueError):
    """The compiled engine cannot serve the model; the message says which fact of it is in the way."""
