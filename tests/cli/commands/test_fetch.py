"""``fetch``: a manifest of what a config needs."""

import re


def test_fetch_prints_a_manifest(lit_gen):
    code, out, err = lit_gen("fetch", "--config", "gan.yaml")
    assert code == 0, err
    assert re.match(r"sha256 [0-9a-f]{64} +[\d,]+  .*mnist_5k.csv.gz", out)
    code, _, err = lit_gen("fetch", "--config", "dcgan_mnist.yaml")
    assert code == 2
    assert "train-images-idx3-ubyte.gz was not found" in err


def test_fetch_names_inceptions_weights_where_a_config_looks_through_it(lit_gen):
    code, _, err = lit_gen("fetch", "--config", "gan.yaml", "--config", "fid.yaml")
    assert code == 2
    assert "the weights of inception-v3-compat are not at" in err
    code, out, err = lit_gen("fetch", "--config", "gan.yaml")
    assert code == 0, err
    assert "mnist_5k" in out
