import io
import lzma
import os
import pickle
import pickletools
import struct
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.limits import outcome
from vec2face.faces import pickles
from vec2face.faces.benchmarks import load_benchmark, save_benchmark
from vec2face.runtime.files import InputError

DATA = os.environ.get("VEC2FACE_DATA")
real = pytest.mark.skipif(not DATA, reason="VEC2FACE_DATA names no folder of real inputs")
IMAGES = [b"\xff\xd8 one", b"two\0", b"three \x80", b"\n"]


class Loaded(NamedTuple):
    images: list[bytes]
    same: np.ndarray


def loaded(path):
    return Loaded(*pickles.read_pickle(path))


def stored(tmp_path, content: bytes):
    path = tmp_path / "pairs.bin"
    path.write_bytes(content)
    return path


def short_string(data: bytes) -> bytes:
    return b"U" + bytes([len(data)]) + data


@settings(max_examples=30)
@given(st.lists(st.tuples(st.binary(), st.binary(), st.booleans()), min_size=1, max_size=8))
def test_what_is_saved_is_loaded(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("bench") / "a.bin"
    images = [image for a, b, _ in pairs for image in (a, b)]
    save_benchmark(path, images, [same for *_, same in pairs])
    benchmark = loaded(path)
    assert benchmark.images == images
    assert benchmark.same.dtype == bool
    assert benchmark.same.tolist() == [same for *_, same in pairs]
    theirs = pickle.loads(path.read_bytes(), encoding="bytes")
    assert (list(theirs[0]), list(theirs[1])) == (images, benchmark.same.tolist())


def test_equal_content_gives_equal_bytes(tmp_path):
    one = b"x" * 300
    save_benchmark(tmp_path / "a.bin", [one, one], [True])
    save_benchmark(tmp_path / "b.bin", [one, bytes(bytearray(one))], np.array([True]))
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("outer", [tuple, list])
def test_all_protocols_and_element_types_are_read(tmp_path, protocol, outer):
    arrays = [np.frombuffer(image, np.uint8) for image in IMAGES]
    for images in (IMAGES, tuple(IMAGES), arrays, [IMAGES[0], *arrays[1:3], b"\n"]):
        for same in ([True, False], [np.True_, np.False_], np.array([True, False]), [1, 0]):
            content = pickle.dumps(outer((images, same)), protocol)
            benchmark = loaded(stored(tmp_path, content))
            assert benchmark.images == IMAGES
            assert benchmark.same.tolist() == [True, False]


def test_python_2_pickles_are_read(tmp_path):
    # Opcodes as cPickle of Python 2 writes ([b"\xff\xd8", "b"], [True]) with protocol 2.
    strings = b"".join(short_string(s) for s in (b"\xff\xd8", b"b"))
    assert loaded(stored(tmp_path, b"\x80\x02](" + strings + b"e](\x88e\x86.")).images == [
        b"\xff\xd8",
        b"b",
    ]
    # The same with protocol 0 (text), and I01 for True.
    text = b"((lp1\nS'\\xff\\xd8'\np2\naS'b'\np3\na(lp4\nI01\natp5\n."
    benchmark = loaded(stored(tmp_path, text))
    assert (benchmark.images, benchmark.same.tolist()) == ([b"\xff\xd8", b"b"], [True])


def test_python_2_numpy_arrays_are_read(tmp_path):
    # numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), "b") and its state, Python 2 strings.
    state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR" + state
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x03t"
        + dtype
        + b"\x89U\x03abctb"
    )
    dtype = b"cnumpy\ndtype\n(U\x02b1K\x00K\x01tR" + state
    scalar = b"cnumpy.core.multiarray\nscalar\n(" + dtype + b"U\x01\x01tR"
    content = b"\x80\x02](" + array + array + b"e](" + scalar + b"e\x86."
    pickletools.dis(content, out=io.StringIO())  # well-formed
    benchmark = loaded(stored(tmp_path, content))
    assert (benchmark.images, benchmark.same.tolist()) == ([b"abc", b"abc"], [True])


class Attack:
    def __init__(self, call, *given):
        self.call, self.given = call, given

    def __reduce__(self):
        return self.call, self.given


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_named_and_not_run(tmp_path, protocol):
    trace = tmp_path / "ran"
    for call, given_ in (
        (os.mkdir, (str(trace),)),
        (eval, (f"__import__('os').mkdir({str(trace)!r})",)),
        (getattr, (b"", "join")),
        (np.load, ("x.npy",)),
    ):
        content = pickle.dumps(([Attack(call, *given_), b""], [True]), protocol)
        with pytest.raises(InputError, match=r"pairs\.bin.*was not run"):
            loaded(stored(tmp_path, content))
        assert not trace.exists()


def test_an_object_array_cannot_smuggle_a_pickle(tmp_path):
    # numpy's own scalar() unpickles the bytes of an object dtype: ours takes no bytes for objects.
    dtype = b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR"
    scalar = (
        b"cnumpy.core.multiarray\nscalar\n(" + dtype + short_string(b"cos\nabort\n(tR.") + b"tR"
    )
    with pytest.raises(InputError, match="an array of something other than numbers"):
        loaded(stored(tmp_path, b"\x80\x02](" + scalar + b"U\x00e](\x88e\x86."))


def test_a_pickle_cannot_alter_what_it_is_given(tmp_path):
    build = b"cnumpy.core.multiarray\nscalar\n}U\x05_nameU\x05bytessb"
    for content in (build, build.replace(b"}", b"(N}").replace(b"sb", b"stb")):
        with pytest.raises(InputError, match="tries to change|holds a dict"):
            loaded(stored(tmp_path, b"\x80\x02" + content + b"."))
    array = b"cnumpy.core.multiarray\n_reconstruct\n(tR}U\x06valuesU\x01xsb."
    with pytest.raises(InputError, match="holds a dict"):
        loaded(stored(tmp_path, b"\x80\x02" + array))


def text(data):
    return b"X" + struct.pack("<I", len(data)) + data


FLAGS = pickle.dumps([True] * 100_000, 2)[2:-1].replace(b"q\0", b"")
HARMFUL = {
    "a place far out in the memo": b"]r\xff\xff\xff\x0f.",
    "bytes that are not there": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "a frame that is not there": b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"N.",
    "an array without width": pickle.dumps((np.zeros((2**40, 0), np.uint8), [True])),
    "a tuple in a tuple as a key": b"}N" + b"\x85" * 2_000_000 + b"Ns.",
    "a tuple in a tuple in a set": b"\x80\x04\x8f(N" + b"\x85" * 2_000_000 + b"\x90.",
    "copies of a long text": b"\x80\x02c_codecs\nencode\nq\0"
    + text(b"x" * 10**6)
    + text(b"latin1")
    + b"\x86q\1](" + b"h\0h\1R" * 20_000 + b"e.",
    "copies of a long list": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\0("
    + FLAGS + b"q\1cnumpy\ndtype\nU\2O8\x85Rq\2]("
    + b"h\0)R(K\1J\xa0\x86\1\0\x85h\2\x89h\1tb" * 20_000 + b"et.",
}  # fmt: skip


@pytest.mark.parametrize("what", HARMFUL)
def test_a_pickle_takes_no_more_memory_than_it_holds(tmp_path, what):
    path = stored(tmp_path, HARMFUL[what])
    said = outcome(pickles.read_pickle, path)
    assert said
    assert said.startswith(f"{path}: "), what


def test_an_image_named_often_is_one(tmp_path):
    """The published files have no image twice; a hostile one would name a large one a million."""
    image = bytearray(b"x" * 10**6)
    array = np.frombuffer(bytes(image), np.uint8)
    for one in (image, array):
        found = loaded(stored(tmp_path, pickle.dumps(([one] * 4000, [True, False] * 1000), 5)))
        assert len(found.images) == 4000
        assert len(set(map(id, found.images))) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        struct.pack("<II", 0xCED7230A, 4),
        pickle.dumps(7),
        pickle.dumps([1, 2]),
        pickle.dumps(({}, {})),
        pickle.dumps((IMAGES, [True, False]))[:-9],
        pickle.dumps((IMAGES, [True])),
        pickle.dumps(([], [])),
        pickle.dumps((IMAGES, [True, 2])),
        pickle.dumps((IMAGES, [True, "yes"])),
        pickle.dumps((["text", "text"], [True])),
        pickle.dumps((np.zeros((2, 4, 4, 3), np.uint8), [True])),
        pickle.dumps((np.zeros((2, 4)), [True])),
    ],
)
def test_what_is_no_benchmark_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"pairs\.bin"):
        loaded(stored(tmp_path, content))


def test_a_column_of_bytes_is_an_image(tmp_path):
    # As OpenCV before 4.5 encodes; a picture of more columns is none.
    columns = [np.frombuffer(image, np.uint8)[:, None] for image in IMAGES]
    content = pickle.dumps((columns, [True, False]), 2)
    assert loaded(stored(tmp_path, content)).images == IMAGES


def test_xz_is_the_same_under_lzma(tmp_path):
    save_benchmark(tmp_path / "a.bin", IMAGES, [True, False])
    (tmp_path / "b.xz").write_bytes(lzma.compress((tmp_path / "a.bin").read_bytes()))
    benchmark = loaded(tmp_path / "b.xz")
    assert benchmark.images == IMAGES
    assert benchmark.same.tolist() == [True, False]


def test_a_damaged_or_malicious_xz_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "b.xz"
    whole = lzma.compress(pickle.dumps((IMAGES, [True, False])))
    for content in (
        b"",
        whole[:-9],
        whole[:40] + b"\0" + whole[41:],
        pickle.dumps((IMAGES, [1, 0])),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"b\.xz: not a benchmark"):
            loaded(path)
    path.write_bytes(lzma.compress(pickle.dumps(([Attack(os.abort), b""], [True]))))
    with pytest.raises(InputError, match="was not run"):
        loaded(path)
    monkeypatch.setattr(pickles, "LARGEST", 1000)
    path.write_bytes(lzma.compress(pickle.dumps(([bytes(999), b""], [True]))))
    with pytest.raises(InputError, match="unpacks to more than 1000"):
        loaded(path)


@real
def test_lfw_is_read():
    benchmark = load_benchmark(f"{DATA}/lfw.bin")
    assert (benchmark.name, len(benchmark.images)) == ("lfw", 12000)
    # Its protocol: ten times 300 pairs of one person and then 300 of two.
    assert (benchmark.same.reshape(10, 2, 300) == [[True], [False]]).all()
    assert all(image.startswith(b"\xff\xd8") for image in benchmark.images)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_images_and_numbers_for_flags_are_read(tmp_path, protocol):
    arrays = np.empty(4, object)
    arrays[:] = [np.frombuffer(image, np.uint8) for image in IMAGES]
    for images in (arrays, np.array(IMAGES, object), [bytearray(image) for image in IMAGES]):
        for same in ([1.0, 0.0], np.array([1.0, 0.0]), np.array([True, False], object)):
            benchmark = loaded(stored(tmp_path, pickle.dumps((images, same), protocol)))
            assert benchmark.images == IMAGES
            assert benchmark.same.tolist() == [True, False]


@pytest.mark.parametrize("flag", [0.5, float("nan"), "1", None])
def test_what_is_no_flag_is_refused(tmp_path, flag):
    with pytest.raises(InputError, match="a pair's flag is true or false"):
        loaded(stored(tmp_path, pickle.dumps((IMAGES, [True, flag]))))
