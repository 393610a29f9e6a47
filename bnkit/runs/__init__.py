"""Training runs: from a recipe to a record, side by side or together, and whether it still holds."""


class DeviceError(RuntimeError):
    """A run or a measurement asks for a GPU where there is none."""

    def __init__(self):
        super().__init__(
            "torch sees no GPU here; leave out --device, or install a CUDA build of torch"
        )
