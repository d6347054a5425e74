"""Rows of real numbers: what is read, how it is split and standardized, and what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets

from lit_gen.core.errors import UserError
from lit_gen.data.vectors import table
from lit_gen.data.vectors.module import Vectors


def rows(count=60, dim=3, seed=0):
    return np.random.default_rng(seed).normal([1, -2, 300][:dim], [0.5, 2, 40][:dim], (count, dim))


def write(text, name="t.csv"):
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def lines(values, header="", end="\n"):
    return header + "".join(",".join(map(repr, row)) + end for row in values.tolist())


def read(source, split="train", **options):
    found = Vectors(source, **options).split(split)
    assert found.images.dtype == torch.float32
    assert found.images.shape[2:] == (1, 1)
    return found.images[:, :, 0, 0]


@pytest.mark.parametrize(
    ("name", "columns"), [("iris", 4), ("wine", 13), ("breast_cancer", 30), ("diabetes", 10)], ids=lambda v: str(v)
)
def test_tables_of_scikit_learn(name, columns):
    options = {"scaled": False} if name == "diabetes" else {}
    theirs = getattr(datasets, f"load_{name}")(**options)
    data = Vectors(f"sklearn:{name}", val_size=6, test_size=30)
    splits = [data.split(split) for split in ("train", "val", "test")]
    assert [len(split) for split in splits[1:]] == [6, 30]
    assert data.name == name
    assert data.columns == list(theirs.feature_names)
    assert data.facts() == {
        "shape": (columns, 1, 1),
        "num_classes": None if name == "diabetes" else len(theirs.target_names),
        "levels": None,
        "standardized": False,
    }
    found = torch.cat([split.images for split in splits])[:, :, 0, 0]
    order, expected = (torch.from_numpy(np.asarray(a)).float() for a in (found, theirs.data))
    assert torch.equal(order.sort(0).values, expected.sort(0).values)
    if data.num_classes:
        assert list(data.classes) == [str(c) for c in sorted(theirs.target_names)]
        names = np.array(data.classes)[splits[2].labels]
        assert np.unique(names, return_counts=True)[1].tolist() == [30 // data.num_classes] * data.num_classes


def test_one_table_in_every_kind_of_file():
    values = rows()
    np.save("a.npy", values)
    np.savez("b.npz", x=values.astype(np.float32))
    np.savez("c.npz", vectors=values[:, :, None, None], labels=np.arange(60) % 2)
    np.savez("d.npz", data=values, kind=np.array(["cat", "dog"])[np.arange(60) % 2])
    files = [
        "a.npy", "b.npz", "c.npz", write(lines(values)), write(lines(values, "u,v,w\n", "\r\n"), "h.csv"),
        write(b"\xef\xbb\xbf" + lines(values, "u,v,w\n").replace(",", "\t").encode(), "t.TSV"),
        write("\n" + lines(values, '"a, b",v,w\n') + "\n\n", "quoted.csv"),
    ]  # fmt: skip
    for name in files:
        assert torch.equal(read(name), torch.from_numpy(values).float()), name
    assert Vectors("quoted.csv").columns == ["a, b", "v", "w"]
    assert Vectors("a.npy").columns == ["0", "1", "2"]
    assert Vectors("c.npz").split("train").labels.tolist() == [0, 1] * 30
    assert Vectors("d.npz").num_classes is None
    assert Vectors("d.npz", label="kind").classes == ["cat", "dog"]
    assert torch.equal(read("a.npy", drop=["1"]), torch.from_numpy(values[:, [0, 2]]).float())


def test_labels_and_columns_to_leave_out_by_name(capfd):
    text = "name,u,species,v\nann,1.5,dog,3\nbob,-2,cat,4\ncy,1e1,dog,7\ndi,.5,cat,8\n"
    data = Vectors(write(text), label="species", drop=["name"])
    data.prepare_data()
    assert capfd.readouterr().err == "note: t.csv: 4 rows of 2 columns, 2 classes of 2 to 2 rows\n"
    assert (data.columns, data.classes) == (["u", "v"], ["cat", "dog"])
    assert data.split("train").images.flatten().tolist() == [1.5, 3, -2, 4, 10, 7, 0.5, 8]
    assert data.split("train").labels.tolist() == [1, 0, 1, 0]
    numbered = Vectors(write("1,2,5\n3,4,5\n2,2,7\n4,4,7\n"), label="2")
    numbered.prepare_data()
    assert numbered.split("train").labels.tolist() == [0, 0, 1, 1]
    assert "the labels 5, 7 are numbered from 0 to 1" in capfd.readouterr().err
    years = Vectors(write("1990,1991\n1,2\n3,4\n"), header=True)
    assert (years.columns, len(years.split("train"))) == (["1990", "1991"], 2)


def test_standardized_by_the_training_split_and_back_in_the_original_units():
    values = rows(200)
    np.save("a.npy", values)
    data = Vectors("a.npy", standardize=True, val_size=30, test_size=40)
    train, test = (data.split(s).images.flatten(1).double().numpy() for s in ("train", "test"))
    assert np.abs(train.mean(0)).max() < 1e-6
    assert np.abs(train.std(0) - 1).max() < 1e-6
    assert np.abs(test - (values[160:] - values[:130].mean(0)) / values[:130].std(0)).max() < 1e-5
    assert torch.equal(read("a.npy", "val", val_size=30, test_size=40), torch.from_numpy(values[130:160]).float())
    assert data.protocol["units"] == "standardized by the training split"
    assert data.protocol["rows"] == {"train": 130, "val": 30, "test": 40}
    # a Gaussian fitted in either unit has one likelihood
    log_p = [-0.5 * (((x - m) / s) ** 2 + math.log(2 * math.pi)) - np.log(s) for x, m, s in (
        (test, train.mean(0), train.std(0)), (values[160:], values[:130].mean(0), values[:130].std(0)),
    )]  # fmt: skip
    assert log_p[0].sum(1) - data.log_scale == pytest.approx(log_p[1].sum(1), abs=1e-4)
    plain = Vectors("a.npy")
    assert (plain.log_scale, plain.mean.tolist(), plain.scale.tolist()) == (0, [0] * 3, [1] * 3)


def test_doubtful_columns_are_told(capfd):
    values = rows(200)
    values[:, 1] = np.arange(200) % 2
    values[:, 2] = 1.7e9 + 100 * np.arange(200)
    np.save("a.npy", values)
    Vectors("a.npy").prepare_data()
    said = capfd.readouterr().err
    assert (
        "at most 10 different values were found in column 1: a density of such columns can grow without bound" in said
    )
    assert "float32 rounds column 2 by more than 1/1000 of their deviation; data.standardize true" in said
    data = Vectors("a.npy", standardize=True)
    data.prepare_data()
    assert "float32" not in capfd.readouterr().err
    assert len(data.split("train").images[:, 2].unique()) == 200


def test_content_follows_numbers_labels_and_units():
    np.save("a.npy", rows())
    np.savez("b.npz", x=rows(), labels=np.arange(60) % 2)
    found = [
        Vectors(*a, **o).content() for a, o in ((["a.npy"], {}), (["a.npy"], {"standardize": True}), (["b.npz"], {}))
    ]
    assert len(set(found)) == 3
    np.save("again.npy", rows())
    assert Vectors("again.npy").content() == found[0]


GOOD = "1,2\n3,4\n2,7\n"
TEXTS = {
    "ragged": ("1,2\n3,4,5\n", {}, r"t\.csv, line 2: 3 cells were found, 2 are expected"),
    "text": ("u,v\n1,2\n3,abc\n", {}, r"t\.csv, line 3, column v: 'abc' was found, a finite number is expected"),
    "underscore": ("u,v\n1,2\n3,1_0\n", {}, r"column v: '1_0' was found"),
    "empty cell": ("u,v\n1,2\n,4\n", {}, r"line 3, column u: an empty cell was found"),
    "nan": ("u,v\n1,2\n3,nan\n", {}, r"line 3, column v: 'nan' was found, a finite"),
    "inf": ("1,2\n-inf,3\n", {}, r"line 2, column 0: '-inf' was found"),
    "mixed first row": ("1,2,setosa\n3,4,x\n", {}, r"data\.header: the first row of t\.csv holds both a number"),
    "two of a name": ("u,u\n1,2\n", {}, r"two columns are called 'u'"),
    "empty": ("", {}, r"t\.csv is empty"),
    "header only": ("u,v\n", {}, r"t\.csv holds no row of numbers"),
    "nothing left": (GOOD, {"drop": ["0", "1"]}, r"t\.csv holds no column of numbers"),
    "unknown label": ("uu,vv\n1,2\n3,4\n", {"label": "vvv"}, r"data\.label: t\.csv has no column 'vvv'; did you mean"),
    "unknown drop": ("uu,vv\n1,2\n", {"drop": ["v"]}, r"data\.drop: t\.csv has no column 'v'"),
    "empty label": ("u,v,c\n1,2,a\n3,4,\n", {"label": "c"}, r"line 3, column c: an empty cell was found, a label is"),
    "real labels": ("1,2,.5\n3,4,.7\n", {"label": "2"}, r"labels are float64 \(2,\), one whole number or name"),
    "other separator": ("u;v\n1;2\n", {}, r"column u;v: '1;2' was found"),
    "constant": ("u,v\n1,2\n1,3\n1,4\n", {}, r"t\.csv has the same value in all 3 training rows of column u"),
    "constant in training": ("1,2\n1,3\n1,4\n5,9\n", {"val_size": 1}, r"all 3 training rows of column 0, "),
    "constant in float32": ("1e9,1\n1000000001,2\n", {}, r"column 0, which has no density in float32; data"),
    "beyond float32": ("1e39,1\n0,2\n", {}, r"t\.csv: 1e\+39 in column 0 is beyond float32"),
    "too few": (GOOD, {"val_size": 1, "test_size": 1}, r"hold out 2 of 3 rows; at least 2 are expected to be left"),
    "too few of a class": ("1,2,a\n3,4,b\n5,6,a\n", {"label": "2", "val_size": 1, "header": False}, None),
    "no CSV": ('1,"2\n3,4\n', {}, r"t\.csv, line 2: no row of a CSV"),
    "other bytes": (b"u,v\n1,2\n\xff\xfe,3\n", {}, r"t\.csv is no text in UTF-8"),
    "huge": (GOOD, {}, r"t\.csv has 12 bytes, at most 8 are read into memory"),
    "classes": ("u,c\n1,a\n2,b\n", {"label": "c", "classes": ["a", "z"]}, r"data\.classes: class 1 of t\.csv is 'b'"),
    "flip": (GOOD, {"flip": True}, r"points have no sides"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_is_no_table(case, monkeypatch):
    text, options, said = TEXTS[case]
    if case == "huge":
        monkeypatch.setattr(table, "MOST_TEXT", 8)
    if said is None:  # class b keeps its one row
        assert Vectors(write(text), **options).split("val").images.flatten().tolist() == [5, 6]
        with pytest.raises(UserError, match=r"class b has 1 row, 1 are to be held out"):
            Vectors(write(text + "7,8,a\n"), **{**options, "val_size": 2})
        return
    with pytest.raises(UserError, match=said) as error:
        Vectors(write(text), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "options", "said"),
    [
        (
            {"z": rows()},
            {},
            r"a\.npz: found 'z', rows \(N, D\) under one of vectors, points, x, X, data, arr_0 are expected",
        ),
        ({"x": rows()[0]}, {}, r"found float64 \(3,\) under 'x', numbers \(N, D\) are expected"),
        ({"x": rows().astype(str)}, {}, r"found <U32 \(60, 3\) under 'x'"),
        ({"x": np.where(rows() > 330, np.nan, rows())}, {}, r"nan was found in row \d+, column 2 \(counted from 0\)"),
        ({"x": rows(), "labels": np.arange(59)}, {}, r"labels \(59,\) were found, one for each of 60 rows"),
        ({"x": rows(), "kinds": np.arange(60)}, {"label": "kind"}, r"no array 'kind'; did you mean 'kinds'"),
        ({"x": rows()}, {"header": True}, r"data\.header: a\.npz is no text"),
        ({"x": rows()}, {"drop": ["3"]}, r"data\.drop: a\.npz has no column '3'"),
    ],
    ids=["no rows", "one row", "text", "nan", "labels", "no such labels", "header", "drop"],
)
def test_arrays_that_are_no_table(arrays, options, said):
    np.savez("a.npz", **arrays)
    with pytest.raises(UserError, match=said):
        Vectors("a.npz", **options)


def test_files_that_are_not_there():
    write(GOOD, "power.csv")
    write(GOOD, "power.xlsx")
    Path("cut.npz").write_bytes(b"PK\x03\x04")
    for source, said in (
        ("powr.csv", r"data\.source: powr\.csv was not found, here or under .*; did you mean 'power\.csv'\?"),
        ("irris", r"irris was not found, .*did you mean 'sklearn:iris'\?"),
        ("sklearn:irris", r"data\.source: 'sklearn:irris' is no table of scikit-learn; did you mean 'sklearn:iris'\?"),
        ("power.xlsx", r"power\.xlsx was found, a file that ends in one of \.csv, \.tsv, \.npz, \.npy is expected"),
        ("cut.npz", r"cut\.npz is truncated or is no \.npz of arrays"),
    ):
        with pytest.raises(UserError, match=said):
            Vectors(source)
    for options in ({"label": "target"}, {"header": True}):
        with pytest.raises(UserError, match=rf"data\.{next(iter(options))}: sklearn:iris is known"):
            Vectors("sklearn:iris", **options)
    with pytest.raises(UserError, match=r"data\.drop: sklearn:iris has no column 'petal'"):
        Vectors("sklearn:iris", drop=["petal"])


def test_a_run_on_vectors_by_its_short_name_draws_rows_and_no_pictures(lit_gen):
    options = (
        "fit", "--config=gan_mlp.yaml", "--data=Vectors", "--data.source=sklearn:wine", "--data.standardize=true",
        "--data.batch_size=16", "--model.generator.width=16", "--model.discriminator.width=16",
        "--trainer.max_steps=2", "--trainer.logger.TensorBoardLogger=false", "--run_id=one",
    )  # fmt: skip
    code, _, err = lit_gen(*options)
    assert code == 2
    assert "extractor lenet-mnist: images of 13 channels and 1x1 pixels were found" in err
    code, _, more = lit_gen(*options, "--trainer.callbacks.FID=false", "--samples.every=1")
    err += more
    assert code == 0, err
    assert "note: sklearn:wine: 178 rows of 13 columns, 3 classes of 48 to 71 rows" in err
    assert "note: samples: vectors of 13 numbers are not drawn" in err
    assert not list(Path("runs/gan_mlp/one").glob("samples/*"))
    for more, expected in (((), 0), ((), 2), (("--overwrite",), 0)):
        code, out, err = lit_gen("sample", "runs/gan_mlp/one", "--n=70", "--out=drawn", *more)
        assert code == expected, err
    assert out.endswith("\ndrawn/vectors.npy\n")
    assert np.load("drawn/vectors.npy").shape == (70, 13)
    assert Vectors("drawn/vectors.npy").shape == (13, 1, 1)


def test_arrays_that_are_not_read_are_told(capsys):
    np.savez("a.npz", x=rows(), y=np.arange(60), labels=np.arange(60) % 3)
    Vectors("a.npz").prepare_data()
    assert "a.npz: not read: y; data.label names an array of labels" in capsys.readouterr().err
    np.savez("b.npz", x=rows(), y=np.arange(60) % 3)
    Vectors("b.npz", label="y").prepare_data()
    assert "not read:" not in capsys.readouterr().err
