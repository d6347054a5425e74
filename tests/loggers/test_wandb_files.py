"""Files of samples, as they are sent again."""

from lit_gen.loggers import wandb_files
from tests.loggers.test_wandb import _own_client  # noqa: F401  a fixture


def test_a_samples_file_gives_its_texts_back(tmp_path):
    path = tmp_path / "samples/step=00000004.txt"
    path.parent.mkdir()
    path.write_text(wandb_files.SEPARATOR.join(["a\n", "", "b"]) + "\n", encoding="utf-8")
    assert wandb_files.texts(path) == ["a\n", "", "b"]
    (path.parent / "step=00000004-scatter.png").touch()
    (path.parent / "step=00000005.png").touch()
    found = list(wandb_files.samples(tmp_path, 3, 4))
    assert [(step, name) for step, name, _ in found] == [(4, "scatter"), (4, "samples")]
