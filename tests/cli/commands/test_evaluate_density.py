"""``evaluate --metrics nll``: any file under a run's density, as `Run.log_prob` and validation score it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import lit_gen as package
from lit_gen.core.images import save_png
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.toy import Toy2D

FIT = (
    "fit", "--model=Flow", "--model.transform=lit_gen.models.flow.vectors.RealNVP", "--model.transform.transforms=2",
    "--model.transform.hidden_features=[8]", "--trainer.max_steps=5", "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=5", "--samples.enabled=false", "--run_name=r",
)  # fmt: skip
IMAGES = (
    "--data=Digits8", "--model.dequantization=Uniform", "--model.support=Logit", "--model.support.alpha=0.01",
    "--trainer.val_check_interval=5", "--trainer.check_val_every_n_epoch=null",
)  # fmt: skip


def test_a_run_scores_any_file(lit_gen):
    code, _, err = lit_gen(*FIT, *IMAGES, "--run_id=a")
    assert code == 0, err
    held_out = Digits8().split("val")
    np.savez("held_out.npz", images=held_out.images.numpy())
    for i, image in enumerate(held_out.images):
        save_png(image, Path(f"folder/{i:04d}.png"))
    found = []
    for source in ("held_out.npz", "folder"):
        code, out, err = lit_gen("evaluate", source, "--metrics=nll", "--reference=runs/r/a", "--out=r.json")
        assert code == 0, err
        assert "nll350" in out
        found.append(json.loads(Path("r.json").read_text(encoding="utf-8")))
    values = found[0]["values"]
    assert values == found[1]["values"]
    assert found[0]["protocol"]["metrics"]["nll"]["levels"] == 17
    nats = package.load("runs/r/a").log_prob(held_out.images)
    assert values["nll350"] == pytest.approx(-float(nats.double().mean()), rel=1e-9)
    assert values["nll350_se"] == pytest.approx(float(nats.double().std()) / math.sqrt(350), rel=1e-6)
    assert values["bits_per_dim350"] == pytest.approx(values["nll350"] / 64 / math.log(2), rel=1e-9)
    logged = Path("runs/r/a/metrics.csv").read_text(encoding="utf-8").splitlines()
    (at_end,) = [float(row.split(",")[logged[0].split(",").index("val/nll")] or 0) for row in logged[-1:]]
    assert values["nll350"] == pytest.approx(at_end, rel=1e-6)

    def refused(*arguments):
        code, out, err = lit_gen("evaluate", *arguments)
        assert (code, out) == (2, ""), err
        return err

    scored = ("--metrics=nll", "--reference=runs/r/a")
    assert "nll, which compares no images, stands alone" in refused("folder", "--metrics=nll,fid", scored[1])
    assert "--repeats: it has no meaning for nll" in refused("folder", *scored, "--repeats=2")
    assert "a run or checkpoint with a density is expected" in refused("folder", "--metrics=nll", "--reference=no")
    assert "no.npz does not exist" in refused("no.npz", *scored)
    assert "data of shape (1, 28, 28) were found, (1, 8, 8) is expected" in refused("mnist-5k:val", *scored)
    assert "--count: 351 was found, but there are 350 rows" in refused("folder", *scored, "--count=351")
    np.savez("between.npz", images=held_out.images.numpy() // 16 * 9)
    assert "none of the 17 levels from -1 to 1" in refused("between.npz", *scored)
    code, _, err = lit_gen(
        "fit", "--config=gan_mlp.yaml", "--config=smoke.yaml", "--trainer.max_steps=2", "--run_name=g", "--run_id=a",
        "--trainer.accelerator=cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "GAN has no density; flows and diffusion models have one" in refused(
        "folder", "--metrics=nll", "--reference=runs/g/a"
    )
    with pytest.raises(package.core.errors.UserError, match="GAN has no density"):
        package.load("runs/g/a").log_prob(held_out.images)


def test_points_are_scored_in_their_own_units(lit_gen):
    code, _, err = lit_gen(*FIT, "--data=Toy2D", "--data.size=1000", "--trainer.limit_val_batches=0", "--run_id=a")
    assert code == 0, err
    points = Toy2D(size=1000).split("test").images
    np.save("points.npy", points.flatten(1).numpy())
    code, out, err = lit_gen("evaluate", "points.npy", "--metrics=nll", "--reference=runs/r/a", "--count=70")
    assert code == 0, err
    assert "bits" not in out
    again = [row.split(",") for row in ["x,y", *(f"{a!r},{b!r}" for a, b in points[:70].flatten(1).tolist())]]
    Path("rows.csv").write_text("\n".join(map(",".join, again)), encoding="utf-8")
    assert lit_gen("evaluate", "rows.csv", "--metrics=nll", "--reference=runs/r/a")[1] == out
    np.save("far.npy", np.full((2, 2), 1e30))
    for source, told in (("far.npy", "gives -inf nats to row 0"), ("sklearn:iris", r"shape (4, 1, 1) were found")):
        code, _, err = lit_gen("evaluate", source, "--metrics=nll", "--reference=runs/r/a")
        assert (code, told in err) == (2, True), err
    nll = -package.load("runs/r/a").log_prob(points[:70])
    assert f"{float(nll.double().mean()):.5g}" in out.split()
    assert torch.isfinite(nll).all()
    code, _, err = lit_gen(*FIT, *IMAGES, "--data=Toy2D")
    assert (code, "the data set (Toy2D) has real numbers; null, or one for real numbers, is expected" in err) == (
        2,
        True,
    )
