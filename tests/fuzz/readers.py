"""What is damaged: for every reader a few sound files, made on the fly, and how they are read.

A reader gets the folder in which its sound files lie; one of them, its target, is replaced by a
damaged one, and all that it gives is read.
"""

import io
import lzma
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from vec2face.faces.align import align_folder
from vec2face.faces.benchmarks import find_benchmarks, load_benchmark, save_benchmark
from vec2face.faces.convert import convert
from vec2face.faces.images import decode
from vec2face.faces.record import frame, pack
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.faces.webdataset import open_faces


class Reader(NamedTuple):
    """A reader under test.

    Attributes:
        make: writes sound files into an empty folder and gives the contents of the target.
        target: the name of the file that is damaged.
        read: reads everything, given the folder.
    """

    make: Callable[[Path], Iterator[bytes]]
    target: str
    read: Callable[[Path], object]


def picture(side: int = 16, seed: int = 0) -> np.ndarray:
    """Return some smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1)


def encoded(ending: str, *options: int, **image: int) -> bytes:
    """Return ``picture`` as OpenCV writes it."""
    return cv2.imencode(ending, picture(**image), options)[1].tobytes()


def by_pillow(form: str, mode: str = "RGB", **options: object) -> bytes:
    """Return ``picture`` as Pillow writes it."""
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


JPEGS = [encoded(".jpg", seed=seed) for seed in range(6)]


def read_source(path: Path, **options: str) -> None:
    """Read labels, images and features of a source, without and with what is damaged."""
    source = open_faces(path, **options)  # type: ignore[arg-type]
    for row in range(min(len(source), 100)):
        source.encoded(row)
        source.feature(row)
        source.where(row)
    assert source.labels.shape == (len(source),)


def of_source(name: str) -> Callable[[Path], None]:
    """Return what reads a source of this name."""
    return lambda folder: read_source(folder / name)


def tree(folder: Path) -> Path:
    """Make people's folders."""
    for number, image in enumerate(JPEGS):
        person = folder / f"p{number % 3}"
        person.mkdir(parents=True, exist_ok=True)
        (person / f"{number}.jpg").write_bytes(image)
    return folder


def put_record(folder: Path, payloads: list[bytes]) -> bytes:
    """Write records with keys from 0 on, and their index."""
    framed = [frame(payload) for payload in payloads]
    starts = np.cumsum([0, *map(len, framed)])[:-1]
    (folder / "a.idx").write_text("".join(f"{k}\t{at}\n" for k, at in enumerate(starts)))
    return b"".join(framed)


def records(folder: Path) -> Iterator[bytes]:
    """A header, packed labels, a cut record."""
    inner = b"\x0a\x23\xd7\xce".join([JPEGS[0][:40], JPEGS[0][40:80]])
    yield put_record(
        folder,
        [
            *(pack(b"", 0, 0, (4.0, 6.0)), pack(JPEGS[1], 3, 1), pack(JPEGS[2], 0, 2, (1.0, 0.5))),
            *(pack(inner, 1, 3), pack(b"", 0, 4, (1.0, 3.0)), pack(b"", 0, 5, (3.0, 4.0))),
        ],
    )


def index(folder: Path) -> Iterator[bytes]:
    """The index of such a file."""
    (data,) = records(folder)
    (folder / "a.rec").write_bytes(data)
    yield (folder / "a.idx").read_bytes()


def beside(folder: Path) -> Iterator[bytes]:
    """A list beside records of one label."""
    data = put_record(folder, [pack(image, 0, key) for key, image in enumerate(JPEGS)])
    (folder / "a.rec").write_bytes(data)
    yield "".join(f"{key}\tp{key % 3}/{key}.jpg\n" for key in range(6)).encode()


class Featured:
    """Rows with features, as a source."""

    name, labels = "rows", np.array([0, 1, 2, 0, 1, 2])

    def __len__(self) -> int:
        return 6

    def encoded(self, i: int) -> bytes:
        """Give row i's image."""
        return JPEGS[i]

    def feature(self, i: int) -> np.ndarray:
        """Give row i's feature."""
        return np.full(4, i, np.float32)

    def where(self, i: int) -> str:
        """Name row i."""
        return f"row {i}"


def database(folder: Path) -> Iterator[bytes]:
    """The authors' LMDB with and without features, and one of many pages."""
    convert(Featured(), folder / "x.lmdb")
    yield (folder / "x.lmdb").read_bytes()
    convert(open_source(tree(folder / "tree")), folder / "y.lmdb")
    yield (folder / "y.lmdb").read_bytes()


def archive(form: str) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of archives."""

    def make(folder: Path) -> Iterator[bytes]:
        tree(folder / "in")
        yield Path(shutil.make_archive(str(folder / "x"), form, folder / "in")).read_bytes()
        long = f"{'d' * 120}/{'f' * 120}.jpg"
        buffer = io.BytesIO()
        if form == "zip":
            for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                buffer = io.BytesIO()
                with zipfile.ZipFile(buffer, "w", kind) as packed:
                    packed.writestr("p/\u00e9.jpg", JPEGS[0])
                    packed.writestr("p/none", JPEGS[1])
                yield buffer.getvalue()
            return
        for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=kind) as packed:
                for name in ("p/1.jpg", "p/none", *([long] * (kind != tarfile.USTAR_FORMAT))):
                    info = tarfile.TarInfo(name)
                    info.size = len(JPEGS[0])
                    packed.addfile(info, io.BytesIO(JPEGS[0]))
            yield buffer.getvalue().rstrip(b"\0") + bytes(1024)

    return make


def face_list(folder: Path) -> Iterator[bytes]:
    """Lists of faces with and without header and labels."""
    tree(folder)
    rows = [f"p{i % 3}/{i}.jpg" for i in range(6)]
    yield "".join(
        f"{row}\n" for row in ["path,label", *(f"{r},{i}" for i, r in enumerate(rows))]
    ).encode()
    yield "\n".join(f"{row}\tann" for row in rows).encode()
    yield "\n".join(rows).encode()


def pair_lists(form: str) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of lists of pairs."""

    def make(folder: Path) -> Iterator[bytes]:
        names = [f"{person}/{person}_{i:04d}.jpg" for person in "AB" for i in (1, 2)]
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(JPEGS[0])
        same = [(names[0], names[1]), (names[2], names[3])] * 3
        other = [(names[0], names[2]), (names[1], names[3])] * 3
        if form == "lfw":
            yield ("3\t2\n" + ("A\t1\t2\nB\t2\t1\n" + "A\t1\tB\t1\nB\t2\tA\t1\n") * 3).encode()
        elif form == "csv":
            rows = [f"{a},{b},{int(n < 6)}" for n, (a, b) in enumerate(same + other)]
            yield "\n".join(["path1,path2,issame", *rows]).encode()
            rows = [f"{row},{n % 3}" for n, row in enumerate(rows)]
            yield "\n".join(["path1,path2,issame,fold", *rows]).encode()
        else:
            yield "\n".join(name for pair in same + other for name in pair).encode()
            folds = [1, 2, 3, 1, 2, 3] + [0] * 6
            pairs = zip(same + other, folds, strict=True)
            yield "\n".join(f"{name} {fold}" for pair, fold in pairs for name in pair).encode()

    return make


def cfp(folder: Path) -> Iterator[bytes]:
    """CFP's protocol, of which one list is damaged."""
    (folder / "Data").mkdir()
    (folder / "Data/1.jpg").write_bytes(JPEGS[0])
    for kind in ("F", "P"):
        (folder / "Protocol/Split").mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{i} ../Data/1.jpg\n" for i in (1, 2, 3))
        (folder / f"Protocol/Pair_list_{kind}.txt").write_text(lines)
    for fold in ("01", "02"):
        place = folder / f"Protocol/Split/FP/{fold}"
        place.mkdir(parents=True)
        (place / "same.txt").write_text("1,2\n3,3\n")
        (place / "diff.txt").write_text("2,1\n")
    yield (folder / "Protocol/Pair_list_P.txt").read_bytes()
    yield b"1 ../Data/1.jpg\n2 ../Data/1.jpg\n3 ../Data/1.jpg\n"


def pickled(folder: Path) -> Iterator[bytes]:
    """Pickles as the field has published them."""
    same = [True, False] * 6
    images = JPEGS * 4
    save_benchmark(folder / "x.bin", images, same)
    yield (folder / "x.bin").read_bytes()
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    held = np.empty(24, object)
    held[:] = arrays
    for protocol in (0, 2, 5):
        yield pickle.dumps((arrays, np.array(same)), protocol)
        yield pickle.dumps((held, list(map(np.bool_, same))), protocol)
        yield pickle.dumps(([bytearray(image) for image in images], same), protocol)


def packed(folder: Path) -> Iterator[bytes]:
    """The same under lzma."""
    for content in list(pickled(folder))[:3]:
        yield lzma.compress(content)


def array(folder: Path) -> Iterator[bytes]:
    """A mask."""
    tree(folder / "faces")
    for values in (np.array([2, 0, 1]), np.array([5, 1], np.uint8)):
        for version in ((1, 0), (2, 0)):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, values, version)
            yield buffer.getvalue()


def store(target: str) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of stores, of which one file is damaged."""

    def make(folder: Path) -> Iterator[bytes]:
        about = {"image_size": 16, "seed": 0, "made_by": "fuzzing", "skipped": ["one"]}
        with FaceStoreWriter(folder / "s", images_per_shard=4, **about) as writer:  # type: ignore[arg-type]
            for number, image in enumerate(JPEGS):
                writer.append(image, number % 3, np.full(4, number, np.float32))
        yield (folder / "s" / target).read_bytes()

    return make


def read_manifest(folder: Path) -> None:
    """Read a store; whatever its manifest says, the rows are those that were written."""
    source = open_source(folder / "s")
    assert source.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert [source.encoded(i) for i in range(6)] == JPEGS
    assert [float(source.feature(i)[0]) for i in range(6)] == [0, 1, 2, 3, 4, 5]  # type: ignore[index]


def shards(folder: Path) -> Iterator[bytes]:
    """A folder of two shards, of which the first is the target."""
    faces = open_source(tree(folder / "in"))
    convert(faces, folder / "shards", form="webdataset", shard=4)
    yield (folder / "shards/data/train-00000-of-00002.tar").read_bytes()


def landmarks(folder: Path) -> Iterator[bytes]:
    """Landmarks of some pictures."""
    (folder / "in").mkdir()
    rows = ["path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"]
    for number in range(2):
        (folder / f"in/{number}.png").write_bytes(encoded(".png"))
        rows.append(f"{number}.png,4,5.5,9,5,7,8,5,10,9,11")
    yield "\n".join(rows).encode()


def align(folder: Path) -> None:
    """Align by them."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    align_folder(folder / "in", folder / "out", folder / "lm.csv", size=16)


def jpegs(folder: Path) -> Iterator[bytes]:
    """JPEGs of many kinds."""
    yield encoded(".jpg", side=24)
    for mode, options in (
        *(("RGB", {"progressive": True}), ("L", {}), ("CMYK", {"subsampling": "4:4:4"})),
        *(("RGB", {"subsampling": "4:4:4"}), ("RGB", {"restart_marker_blocks": 2})),
        ("CMYK", {"subsampling": "4:2:0"}),
    ):
        yield by_pillow("JPEG", mode, **options)


def tiffs(folder: Path) -> Iterator[bytes]:
    """TIFFs of many kinds."""
    yield encoded(".tiff")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield by_pillow("TIFF", compression=compression)


def pictures(*contents: bytes) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of these."""
    return lambda folder: iter(contents)


def read_picture(folder: Path) -> None:
    """Decode a picture, at its own size and at another."""
    data = (folder / "x").read_bytes()
    image = decode(data, str(folder / "x"))
    assert image.dtype == np.uint8
    assert image.ndim == 3


def arrays(folder: Path) -> Iterator[bytes]:
    """A test set of the authors, whose array is damaged."""
    np.save(folder / "x.npy", np.stack([picture(8, n).transpose(2, 0, 1) for n in range(40)]))
    (folder / "issame.txt").write_text("1\n0\n" * 10)
    yield (folder / "x.npy").read_bytes()


def flags(folder: Path) -> Iterator[bytes]:
    """The same; its flags are damaged."""
    next(arrays(folder))
    yield (folder / "issame.txt").read_bytes()


def of_benchmark(name: str) -> Callable[[Path], None]:
    """Return what reads a benchmark of this name."""

    def read(folder: Path) -> None:
        (path,) = find_benchmarks(folder / name).values()
        benchmark = load_benchmark(path)
        assert len(benchmark.images) == 2 * len(benchmark.same)

    return read


READERS: dict[str, Reader] = {
    "record": Reader(records, "a.rec", of_source("a.rec")),
    "index": Reader(index, "a.idx", of_source("a.rec")),
    "record-list": Reader(beside, "list.txt", of_source("a.rec")),
    "lmdb": Reader(database, "x", of_source("x")),
    "zip": Reader(archive("zip"), "x.zip", of_source("x.zip")),
    "tar": Reader(archive("tar"), "x.tar", of_source("x.tar")),
    "shards": Reader(shards, "shards/data/train-00000-of-00002.tar", of_source("shards")),
    "csv": Reader(face_list, "x.csv", of_source("x.csv")),
    "mask": Reader(array, "x.npy", lambda f: read_source(f / "faces", mask=str(f / "x.npy"))),
    "manifest": Reader(store("manifest.json"), "s/manifest.json", read_manifest),
    "store-labels": Reader(store("labels.npy"), "s/labels.npy", of_source("s")),
    "pairs-lfw": Reader(pair_lists("lfw"), "pairs.txt", of_benchmark("pairs.txt")),
    "pairs-lines": Reader(pair_lists("lines"), "pair_x.txt", of_benchmark("pair_x.txt")),
    "pairs-csv": Reader(pair_lists("csv"), "x.csv", of_benchmark("x.csv")),
    "cfp": Reader(cfp, "Protocol/Pair_list_P.txt", of_benchmark("Protocol/Split/FP")),
    "bin": Reader(pickled, "x.bin", of_benchmark("x.bin")),
    "xz": Reader(packed, "x.xz", of_benchmark("x.xz")),
    "array-pairs": Reader(arrays, "x.npy", of_benchmark("x.npy")),
    "array-flags": Reader(flags, "issame.txt", of_benchmark("x.npy")),
    "landmarks": Reader(landmarks, "lm.csv", align),
    "jpeg": Reader(jpegs, "x", read_picture),
    "png": Reader(
        pictures(encoded(".png"), by_pillow("PNG", "P"), by_pillow("PNG", "1")), "x", read_picture
    ),
    "bmp": Reader(pictures(encoded(".bmp"), by_pillow("BMP", "P")), "x", read_picture),
    "webp": Reader(
        pictures(encoded(".webp"), by_pillow("WEBP", quality=80), by_pillow("WEBP", "RGBA")),
        *("x", read_picture),
    ),
    "tiff": Reader(tiffs, "x", read_picture),
    "gif": Reader(pictures(by_pillow("GIF"), by_pillow("GIF", interlace=1)), "x", read_picture),
    "pnm": Reader(
        pictures(
            encoded(".ppm"), by_pillow("PPM", "L"), b"P2\n2 2\n255\n1 2 3 4\n", b"P1\n2 2\n0110\n"
        ),
        *("x", read_picture),
    ),
}
