"""Each data set: what it reads, how it splits, and how it refuses what is broken."""

import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import TensorDataset

from lit_gen.data import cifar, files, mnist
from lit_gen.data.cifar import CIFAR10
from lit_gen.data.folder import ImageFolder
from lit_gen.data.images import stratified
from lit_gen.data.mnist import MNIST, FashionMNIST
from lit_gen.data.tensors import TensorSet
from lit_gen.data.toy import Toy2D, grid_centres, ring_centres
from lit_gen.errors import UserError

# ---- MNIST and Fashion-MNIST


def test_embedded_digits_are_always_the_same_4000_and_1000(monkeypatch, tmp_path):
    monkeypatch.setenv("LIT_GEN_DATA", str(tmp_path))  # whatever else lies on the disk
    data = MNIST(embedded=True)
    train, val = data.split("train"), data.split("val")
    assert (len(train), len(val)) == (4000, 1000)
    assert train.labels.bincount().tolist() == [400] * 10
    assert val.labels.bincount().tolist() == [100] * 10
    assert train.images.dtype == torch.uint8
    assert train.images.shape[1:] == (1, 28, 28)
    together = torch.cat([train.images, val.images]).flatten(1).unique(dim=0)
    assert len(together) == len(mnist.embedded_digits().images.flatten(1).unique(dim=0))  # nothing lost, none twice
    overlap = {bytes(i) for i in train.images.numpy()} & {bytes(i) for i in val.images.numpy()}
    assert not overlap
    assert int(train.images.long().sum()) == 104646036


def test_the_files_are_those_that_torchvision_knows():
    assert list(MNIST.checksums) == [name for name, _ in torchvision.datasets.MNIST.resources]
    assert list(FashionMNIST.checksums) == [name for name, _ in torchvision.datasets.FashionMNIST.resources]


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Archives in the official form, 60 training and 20 test images, with their own checksums."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    sums = {}
    for part, n in (("train", 60), ("t10k", 20)):
        arrays = {"images-idx3": rng.integers(0, 256, (n, 28, 28)), "labels-idx1": np.arange(n) % 10}
        for kind, array in arrays.items():
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
            sums[path.name] = files.md5(path)
    monkeypatch.setattr(MNIST, "checksums", sums)
    return tmp_path / "data"


def test_splits_of_the_official_archives_do_not_overlap(small_mnist):
    data = MNIST(root=str(small_mnist), val_size=20)
    sizes = [len(data.split(s)) for s in ("train", "val", "test")]
    assert sizes == [40, 20, 20]
    assert data.split("val").labels.bincount().tolist() == [2] * 10
    rows = [{bytes(i) for i in data.split(s).images.numpy()} for s in ("train", "val", "test")]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]


def test_a_changed_file_is_named_with_both_checksums(small_mnist):
    path = small_mnist / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-10]))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: its content has the checksum .* delete it"):
        MNIST(root=str(small_mnist)).prepare_data()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is truncated or damaged"):
        MNIST(root=str(small_mnist)).prepare_data()


@pytest.mark.parametrize("cut", [2, 10, 1000])
def test_a_truncated_idx_file_is_named(tmp_path, cut):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(idx(np.zeros((3, 28, 28)))[:-cut] if cut > 2 else b"ab")
    with pytest.raises(UserError, match="x-idx3-ubyte"):
        files.read_idx(path)
    (tmp_path / "y.gz").write_bytes(gzip.compress(idx(np.zeros((3, 28, 28))))[:-4])
    with pytest.raises(UserError, match=r"y.gz is truncated"):
        files.read_idx(tmp_path / "y.gz")


def test_offline_says_at_once_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz was not found .*LIT_GEN_OFFLINE=1 forbids"):
        MNIST(root=str(tmp_path)).prepare_data()


@pytest.fixture
def server(tmp_path):
    """A web server for the folder ``served``, on this machine alone."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_is_verified_and_complete_or_absent(server, tmp_path, monkeypatch):
    folder, url = server
    monkeypatch.setenv("LIT_GEN_OFFLINE", "0")
    (folder / "f.gz").write_bytes(gzip.compress(b"the content"))
    checksum = hashlib.md5(b"the content").hexdigest()
    found = files.ensure(tmp_path / "d", ("a",), "f.gz", [f"{url}/absent.gz", f"{url}/f.gz"], checksum)
    assert found == tmp_path / "d" / "a" / "f.gz"
    assert gzip.decompress(found.read_bytes()) == b"the content"
    with pytest.raises(UserError, match=r"g.gz was not found .*could not be downloaded .*checksum"):
        files.ensure(tmp_path / "d", ("a",), "g.gz", [f"{url}/f.gz"], "0" * 32)
    assert [p.name for p in (tmp_path / "d" / "a").iterdir()] == ["f.gz"]


def test_an_archive_packed_anew_and_an_unpacked_file_are_accepted(small_mnist):
    path = small_mnist / "mnist" / "train-images-idx3-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content, 1))
    assert len(MNIST(root=str(small_mnist), val_size=20).split("train")) == 40
    path.with_suffix("").write_bytes(content)
    path.unlink()
    assert len(MNIST(root=str(small_mnist), val_size=20).split("train")) == 40


@pytest.mark.data
def test_the_real_fashion_mnist(data_root):
    data = FashionMNIST(root=str(data_root))
    data.prepare_data()
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [55_000, 5_000, 10_000]
    assert data.split("test").labels.bincount().tolist() == [1000] * 10


@pytest.mark.data
def test_the_official_digits_are_not_the_embedded_ones(data_root):
    images = torch.from_numpy(files.read_idx(data_root / "mnist" / "t10k-images-idx3-ubyte.gz"))
    official = {bytes(i) for i in images.numpy()}
    assert not official & {bytes(i[0]) for i in mnist.embedded_digits().images.numpy()}


# ---- CIFAR-10


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """The binary archive in the official form, 40 rows per file."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    root.mkdir()
    tables = {}
    with tarfile.open(root / cifar.ARCHIVE, "w:gz") as tar:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            table = rng.integers(0, 256, (40, 3073)).astype(np.uint8)
            table[:, 0] = np.arange(40) % 10
            tables[name] = table
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = table.size
            tar.addfile(info, io.BytesIO(table.tobytes()))
    monkeypatch.setattr(cifar, "MD5", files.md5(root / cifar.ARCHIVE))
    return root, tables


def test_cifar_is_read_from_the_binary_archive(small_cifar):
    root, tables = small_cifar
    data = CIFAR10(root=str(root), val_size=20)
    train, val, test = (data.split(s) for s in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (180, 20, 40)
    assert train.images.shape[1:] == data.shape == (3, 32, 32)
    row = tables["test_batch.bin"][7]
    assert test.labels[7] == row[0]
    assert torch.equal(test.images[7], torch.from_numpy(row[1:].reshape(3, 32, 32)))  # planes: red, green, blue


def test_cifar_names_a_missing_or_short_member(small_cifar):
    root, _ = small_cifar
    with pytest.raises(UserError, match=r"data_batch_9.bin is missing"):
        cifar.read_binary(root / cifar.ARCHIVE, ["data_batch_9.bin"])
    whole = (root / cifar.ARCHIVE).read_bytes()
    (root / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut.tar.gz is truncated or damaged"):
        cifar.read_binary(root / "cut.tar.gz", ["test_batch.bin"])


# ---- a folder of images


def picture(path, size=(20, 16), mode="RGB", color="red", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


def test_folder_with_classes(tmp_path):
    for i in range(6):
        picture(tmp_path / "f" / "b" / f"{i}.png", color=(i, 0, 0))
        picture(tmp_path / "f" / "a" / "deeper" / f"{i}.jpg", color=(0, i, 0))
    data = ImageFolder(str(tmp_path / "f"), val_size=2, test_size=2)
    assert data.classes == ["a", "b"]
    assert (data.num_classes, data.shape) == (2, (3, 16, 20))
    data.prepare_data()
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [8, 2, 2]
    assert data.split("val").labels.tolist() == [0, 1]
    assert data.split("test").images[1, 0, 0, 0] == 5  # the last of class b


def test_folder_without_classes_has_no_labels(tmp_path):
    for i in range(3):
        picture(tmp_path / "f" / f"{i}.png")
    data = ImageFolder(str(tmp_path / "f"), channels=1)
    assert data.num_classes is None
    assert data.split("train").labels is None
    assert data.split("train").images.shape == (3, 1, 16, 20)


def test_folder_modes_orientation_and_transparency(tmp_path):
    folder = tmp_path / "f"
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    folder.mkdir()
    clear.save(folder / "0.png")  # red, wholly transparent: white
    Image.new("L", (8, 8), 7).save(folder / "1.png")
    sideways = Image.new("RGB", (8, 8))
    sideways.paste((255, 255, 255), (0, 0, 8, 4))  # upper half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the right half is then white
    sideways.save(folder / "2.png", exif=exif)
    data = ImageFolder(str(folder))
    images = data.split("train").images
    assert (images[0] == 255).all()
    assert (images[1] == 7).all()
    assert (images[2, :, :, 4:] == 255).all()
    assert (images[2, :, :, :4] == 0).all()


def test_folder_reads_sixteen_bits_and_passes_over_hidden_files(tmp_path):
    (tmp_path / "f").mkdir()
    Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)).save(tmp_path / "f" / "0.png")
    (tmp_path / "f" / "._0.png").write_bytes(b"not an image")
    images = ImageFolder(str(tmp_path / "f"), channels=1).split("train").images
    assert images.shape == (1, 1, 8, 8)
    assert abs(images.flatten().float() - torch.linspace(0, 255, 64)).max() <= 1


def test_folder_resize_and_crop(tmp_path):
    picture(tmp_path / "f" / "0.png", (40, 20))
    picture(tmp_path / "f" / "1.png", (30, 60))
    data = ImageFolder(str(tmp_path / "f"), resize=16, crop=12)
    assert data.shape == (3, 12, 12)
    assert data.split("train").images.shape == (2, 3, 12, 12)


def test_folder_is_decoded_once_and_again_when_a_file_changes(tmp_path, monkeypatch):
    picture(tmp_path / "f" / "0.png")
    ImageFolder(str(tmp_path / "f")).prepare_data()
    decoded = []
    original = ImageFolder._decode
    monkeypatch.setattr(ImageFolder, "_write", lambda self, path: decoded.append(path) or path.touch())
    ImageFolder(str(tmp_path / "f")).prepare_data()
    assert not decoded
    picture(tmp_path / "f" / "1.png")
    ImageFolder(str(tmp_path / "f")).prepare_data()
    assert len(decoded) == 1
    assert original is ImageFolder._decode


def test_folder_refuses_what_is_broken(tmp_path):
    with pytest.raises(UserError, match=r"data.folder: .*nowhere is no folder"):
        ImageFolder("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        ImageFolder(str(tmp_path / "empty"))
    picture(tmp_path / "both" / "0.png")
    picture(tmp_path / "both" / "class" / "1.png")
    with pytest.raises(UserError, match=r"images beside its class folders \(0.png\)"):
        ImageFolder(str(tmp_path / "both"))
    picture(tmp_path / "mixed" / "0.png", (8, 8))
    picture(tmp_path / "mixed" / "1.png", (9, 8))
    with pytest.raises(UserError, match=r"1.png is 9x8, but .*0.png is 8x8; set data.resize and data.crop"):
        ImageFolder(str(tmp_path / "mixed")).prepare_data()
    picture(tmp_path / "broken" / "0.png")
    whole = (tmp_path / "broken" / "0.png").read_bytes()
    (tmp_path / "broken" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"1.png is no readable image"):
        ImageFolder(str(tmp_path / "broken")).prepare_data()
    assert not list((tmp_path / "cache").glob("*"))  # nothing half-decoded stays


# ---- any tensors


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_npz(tmp_path, layout):
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8)).astype(np.uint8)
    stored = {"NHW": images[:, 0], "NHWC": images.transpose(0, 2, 3, 1), "NCHW": images}[layout]
    np.savez(tmp_path / "x.npz", images=stored, labels=np.arange(12) % 3)
    data = TensorSet(str(tmp_path / "x.npz"), val_size=3)
    assert data.num_classes == 3
    assert data.shape == ((1, 8, 8) if layout == "NHW" else (3, 8, 8))
    assert data.split("val").labels.tolist() == [0, 1, 2]
    assert torch.equal(data.split("val").images[:, 0], torch.from_numpy(images[9:, 0]))


def test_a_torch_dataset_is_read_anew_or_kept_under_a_name():
    one, two = (torch.full((10, 1, 4, 4), v, dtype=torch.uint8) for v in (1, 2))
    for images in (one, two):
        data = TensorSet(TensorDataset(images, torch.arange(10)))
        assert torch.equal(data.split("train").images, images)
        assert data.num_classes == 10
    kept = [TensorSet(TensorDataset(images, torch.arange(10)), cache="mine") for images in (one, two)]
    assert all(torch.equal(data.split("train").images, one) for data in kept), "the name stands for the content"


def test_a_torch_dataset_from_the_command_line(lit_gen):
    source = "{class_path: torchvision.datasets.FakeData, init_args: {size: 40, image_size: [3, 32, 32]}}"
    net = ("--model.generator=lit_gen.gan.mlp.Generator", "--model.discriminator=lit_gen.gan.mlp.Discriminator")
    code, _, err = lit_gen(
        "fit",
        "--config=gan_mlp.yaml",
        "--config=smoke.yaml",
        *net,
        "--data=TensorSet",
        f"--data.source={source}",
        "--trainer.callbacks.FID=false",  # which looks through lenet-mnist, at grey 28x28 images
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no zip", "is truncated or is no .npz"),
        ({"pictures": np.zeros((2, 4, 4), np.uint8)}, "found nothing under 'images'"),
        ({"images": np.zeros((2, 4, 4), np.float32)}, r"found float32 \(2, 4, 4\)"),
        ({"images": np.zeros((2, 4, 4, 4), np.uint8)}, r"found uint8 \(2, 4, 4, 4\)"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2)}, r"labels are float64 \(2,\)"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, r"labels are int64 \(3,\)"),
    ],
    ids=["no zip", "no images", "float", "four axes", "float labels", "labels too many"],
)
def test_npz_refused(tmp_path, content, told):
    path = tmp_path / "x.npz"
    path.write_bytes(content) if isinstance(content, bytes) else np.savez(path, **content)
    with pytest.raises(UserError, match=told):
        TensorSet(str(path))


def test_missing_npz():
    with pytest.raises(UserError, match=r"data.source: x.npz was not found"):
        TensorSet("x.npz")


# ---- toy sets


def test_the_modes_are_pacgans():
    ring, grid = ring_centres(), grid_centres()
    assert torch.allclose(ring.norm(dim=1), torch.ones(8))
    assert sorted(map(tuple, grid.tolist())) == [(a, b) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)]


@pytest.mark.parametrize(("kind", "modes", "sigma"), [("ring", 8, 0.01), ("grid", 25, 0.05)])
def test_toy_points_lie_around_their_modes(kind, modes, sigma):
    data = Toy2D(kind, size=20_000)
    train = data.split("train")
    assert (data.shape, data.num_classes) == ((2, 1, 1), modes)
    offsets = train.images.flatten(1) - data.centres[train.labels]
    assert abs(offsets.std().item() / sigma - 1) < 0.02
    assert train.labels.bincount().min() > 0.8 * 20_000 / modes
    assert not torch.equal(train.images[:100], data.split("val").images[:100])
    assert torch.equal(Toy2D(kind, size=20_000).split("train").images, train.images)


def test_stratified_holds_out_the_last_of_each_class():
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 1])
    train, held_out = stratified(labels, 3)
    assert held_out.tolist() == [2, 4, 6]
    assert train.tolist() == [0, 1, 3, 5]
    assert stratified(labels, 0)[1].tolist() == []
