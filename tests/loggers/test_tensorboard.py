"""What stands in TensorBoard's files: without what was hidden, up to what a kill cut short."""

from support.event_files import older
from torch.utils.tensorboard import SummaryWriter

from lit_gen.loggers.tensorboard import _written


def write(folder, values, purge_step=None):
    with SummaryWriter(str(folder), purge_step=purge_step, filename_suffix=f".{len(list(folder.iterdir()))}") as writer:
        for step, tag in values:
            writer.add_scalar(tag, 1.0, step)


def test_what_was_written_and_not_hidden_by_a_later_start(tmp_path):
    write(tmp_path, [(0, "hp"), (1, "a"), (2, "a"), (2, "b"), (3, "a")])
    assert _written(tmp_path, (0, 2)) == {(0, "hp"), (2, "a"), (2, "b")}
    older(tmp_path)
    write(tmp_path, [(2, "c"), (3, "a")], purge_step=2)
    assert _written(tmp_path, (0, 2)) == {(0, "hp"), (2, "c")}
    last = max(tmp_path.iterdir())
    last.write_bytes(last.read_bytes()[:-3])  # of (3, "a")
    assert _written(tmp_path, (2, 3)) == {(2, "c")}
