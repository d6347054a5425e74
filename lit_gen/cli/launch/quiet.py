"""Third parties' advice that is wrong for this project, kept off the screen."""

import logging
import os
import warnings


def quiet() -> None:
    """Keep third parties' advice, which is wrong for this project, off the screen."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*instantiate_classes.*was deprecated.*",  # called by lightning
        ".*JsonargparseDeprecationWarning.*",
        "(?s).*Unable to serialize instance",  # said better by our own sentence
        ".*isinstance\\(treespec, LeafSpec\\).*",  # called by lightning
        ".*GPU available but not used.*",
        "Using ModelCheckpoint with manual optimization",  # the weights after the step are the ones that were measured
        "The `srun` command is available on your system but is not used",
        ".*is smaller than the logging interval.*",  # one log entry per so many steps, whatever the epoch's length
    ):
        warnings.filterwarnings("ignore", message=message)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
