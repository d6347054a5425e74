"""TensorBoard's event files, whose names hold the second in which they were begun."""


def older(folder):
    """Let them be of a second earlier, so that the next one, which is read after them, may begin at once."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        second, _, rest = path.name.removeprefix("events.out.tfevents.").partition(".")
        path.rename(path.with_name(f"events.out.tfevents.{int(second) - 1:010d}.{rest}"))
