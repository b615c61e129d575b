import lzma
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.faces.benchmarks import (
    BenchmarkFaces,
    find_benchmarks,
    load_benchmark,
    save_benchmark,
)
from vec2face.faces.images import decode
from vec2face.runtime.files import InputError

IMAGES = [b"\xff\xd8 one", b"two\0", b"three \x80", b"\n"]


def put(root, **files):
    """Write files: text lists by name, images (the name is the content) as a list of paths."""
    for image in files.pop("images", []):
        path = root / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.encode())
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


@pytest.fixture
def lfw(tmp_path):
    images = [f"{name}/{name}_{i:04d}.jpg" for name in ("A_B", "C", "D-e") for i in (1, 2, 13)]
    pairs = "2\t1\nA_B\t1\t13\nA_B\t2\tC\t1\nC\t2\t1\nD-e\t1\tA_B\t1\n"
    return put(tmp_path / "LFW", images=images, pairs__txt=pairs)


def test_lfw(lfw):
    for benchmark in (load_benchmark(lfw), load_benchmark(lfw / "pairs.txt")):
        assert benchmark.name == "lfw"
        assert [image.decode() for image in benchmark.images] == [
            *("A_B/A_B_0001.jpg", "A_B/A_B_0013.jpg", "A_B/A_B_0002.jpg", "C/C_0001.jpg"),
            *("C/C_0002.jpg", "C/C_0001.jpg", "D-e/D-e_0001.jpg", "A_B/A_B_0001.jpg"),
        ]
        assert benchmark.same.tolist() == [True, False, True, False]
        assert benchmark.folds.tolist() == [0, 0, 1, 1]


def test_images_may_lie_in_a_folder_beside_the_list(lfw):
    (lfw / "lfw-deepfunneled").mkdir()
    for person in ("A_B", "C", "D-e"):
        (lfw / person).rename(lfw / "lfw-deepfunneled" / person)
    assert load_benchmark(lfw).images[3] == b"C/C_0001.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{'9' * 5000}\t1\nA_B\t1\t2\n", "line 1: 1 pairs after '9999"),
        (f"1 1\nA_B 1 2\nA_B 1 C {'9' * 5000}\n", "line 3: 'A_B 1 C 999"),
        ("2\t1\nA_B\t1\t2\n", r"pairs\.txt, line 1: 1 pairs after '2\t1'"),
        ("10\nA_B\t1\t2\n", "line 1.*number of sets"),
        ("1 1\n\nA_B 1 2\nA_B one C 1\n", "line 4: 'A_B one C 1'"),
        ("1 1\nA_B 1 2\nA_B 1\n", "line 3: 'A_B 1'"),
        ("2 1\nC 1 2\nC 1 X 1\nC 1 7\nC 2 A_B 1\n", r"line 3: .*X_0001\.jpg is missing \(2 "),
        ("2 1\nC 1 2\nC 1 D-e 1\nC 1 2\nC 1 ../C 1\n", r"line 5: \.\./C/.*leads out of"),
        ("1 1\nC 1 2\nC 1 A_B 1\n", "one fold"),
        ("", "no pair in it"),
        ("0 5", "no pair in it"),
    ],
)
def test_what_is_wrong_in_pairs_txt_is_named(lfw, text, message):
    (lfw / "pairs.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        load_benchmark(lfw)


def test_a_list_that_is_no_text_is_named(lfw):
    (lfw / "pairs.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match=r"pairs\.txt: not a text"):
        load_benchmark(lfw)


def contents(benchmark):
    return [image.decode() for image in benchmark.images]


def test_sllfw_compares_directories(tmp_path):
    images = ["A/A_0001.jpg", "A/A_0002.jpg", "B/B_0001.jpg", "AA/A_0001.jpg"]
    order = [images[i] for i in (0, 1, 2, 1, 3, 0)] * 10
    put(tmp_path / "data", images=images, pair_SLLFW__txt="\n".join(order) + "\n")
    benchmark = load_benchmark(tmp_path / "data")
    assert benchmark.name == "sllfw"
    assert contents(benchmark) == order
    assert benchmark.same.tolist() == [True, False, False] * 10
    assert benchmark.folds.tolist() == [i // 3 for i in range(30)]


def calfw(folds_of_one, folds_of_two):
    """Return a list in the form of CALFW, and its images: every pair has images of its own."""
    lines, images = [], []
    for n, fold in enumerate([*folds_of_one, *folds_of_two]):
        images += [f"images/{n}_{i}.jpg" for i in (1, 2)]
        lines += [f"{n}_{i}.jpg {fold}" for i in (1, 2)]
    return {"pairs_CALFW__txt": "\n".join(lines) + "\n", "images": images}


@pytest.mark.parametrize("turn", [1, -1])
def test_calfw_has_the_fold_behind_its_lines(tmp_path, turn):
    """Officially all pairs of one person come first, so contiguous runs would be of one kind."""
    ones = [n for n in range(1, 11) for _ in range(3)][::turn]
    put(tmp_path, **calfw(ones, [0] * 30))
    benchmark = load_benchmark(tmp_path)
    assert benchmark.name == "calfw"
    assert benchmark.same.tolist() == [True] * 30 + [False] * 30
    assert benchmark.folds.tolist() == ones + sorted(ones)
    assert benchmark.images[3] == b"images/1_2.jpg"


def tenths(count):
    """The folds of so many pairs, as scikit-learn's KFold cuts them."""
    return [n for n, some in enumerate(np.array_split(np.arange(count), 10)) for _ in some]


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["flag", "csv", "sllfw"]))
def test_without_a_fold_the_tenths_of_each_kind_are_one(tmp_path_factory, ones, twos, form):
    folder = tmp_path_factory.mktemp("pairs")
    if form == "flag":
        put(folder, **calfw([1] * ones, [0] * twos))
    else:
        pairs = [("a/1.jpg", "a/2.jpg")] * ones + [("a/1.jpg", "b/1.jpg")] * twos
        rows = [f"{a},{b},{int(n < ones)}" for n, (a, b) in enumerate(pairs)]
        lists = {
            "csv": {"pairs__csv": "\n".join(["path1,path2,issame", *rows])},
            "sllfw": {"pair_x__txt": "\n".join(name for pair in pairs for name in pair)},
        }
        put(folder, images=["a/1.jpg", "a/2.jpg", "b/1.jpg"], **lists[form])
    if ones + twos < 10:
        with pytest.raises(InputError, match=f"{ones + twos} pairs do not make 10 folds"):
            load_benchmark(folder)
        return
    benchmark = load_benchmark(folder)
    assert benchmark.same.sum() == ones
    assert benchmark.folds.tolist() == tenths(ones) + tenths(twos)


@pytest.mark.parametrize("form", ["bin", "xz"])
def test_a_bin_is_cut_anew_only_where_a_tenth_is_of_one_kind(tmp_path, caplog, form):
    mixed = ([True] * 3 + [False] * 3) * 10
    sorted_, late = sorted(mixed), mixed[3:] + mixed[:3]  # the last tenth of ``late`` has a switch
    for same, folds in ((mixed, None), (late, None), (sorted_, tenths(30) * 2)):
        save_benchmark(tmp_path / "a.bin", [b"image"] * 120, same)
        file = tmp_path / f"a.{form}"
        if form == "xz":
            file.write_bytes(lzma.compress((tmp_path / "a.bin").read_bytes()))
        caplog.clear()
        benchmark = load_benchmark(file)
        assert (benchmark.folds is None) == (folds is None)
        if folds is not None:
            assert benchmark.folds.tolist() == folds
        assert ("one of ten runs" in caplog.text) == (folds is not None)


@pytest.mark.parametrize("same", [True, False])
def test_pairs_of_a_single_kind_or_too_few_are_refused(tmp_path, same):
    kind = "one person" if same else "two people"
    save_benchmark(tmp_path / "a.bin", [b"image"] * 40, [same] * 20)
    put(tmp_path, images=["1.jpg"], pairs__csv="path1,path2,issame,fold\n")
    with (tmp_path / "pairs.csv").open("a") as file:
        file.writelines(f"1.jpg,1.jpg,{int(same)},{n}\n" for n in range(10))
    for name, pairs in (("a.bin", 20), ("pairs.csv", 10)):
        with pytest.raises(InputError, match=rf"{name}: all {pairs} pairs are of {kind}"):
            load_benchmark(tmp_path / name)
    save_benchmark(tmp_path / "a.bin", [b"image"] * 18, [same] + [not same] * 8)
    with pytest.raises(InputError, match=r"a\.bin: 9 pairs do not make 10 folds"):
        load_benchmark(tmp_path / "a.bin")


def test_stated_folds_of_one_kind_are_warned_of(tmp_path, caplog):
    rows = ["1.jpg,1.jpg,1,0", "1.jpg,1.jpg,0,1", "1.jpg,1.jpg,1,2", "1.jpg,1.jpg,0,2"]
    put(tmp_path, images=["1.jpg"], pairs__csv="\n".join(["path1,path2,issame,fold", *rows]))
    assert load_benchmark(tmp_path / "pairs.csv").folds.tolist() == [0, 1, 2, 2]
    assert "2 folds hold pairs of one kind alone" in caplog.text


@pytest.mark.parametrize("name", ["$x^{2$", "a\nb", "<b>", "x" * 120, ";touch y #", "a'b", '"'])
def test_a_name_in_the_metrics_is_plain(tmp_path, name):
    save_benchmark(tmp_path / f"{name}.bin", [b"image"] * 40, [True, False] * 10)
    (tmp_path / f"{name}/x").mkdir(parents=True)
    put(tmp_path / f"{name}/x", images=["1.jpg"], pairs__csv="path1,path2,issame\n1.jpg,1.jpg,1")
    (tmp_path / f"{name}/x").rename(tmp_path / f"{name}/{name}")
    for path in (tmp_path, tmp_path / f"{name}.bin", tmp_path / name):
        for read in (find_benchmarks, load_benchmark):
            with pytest.raises(InputError, match="is no plain name; rename it"):
                read(path)


@pytest.mark.parametrize("name", ["lfw", "my faces 2.0", "cfp_fp", "gr\u00fc\u00dfe", "a+b-c"])
def test_plain_names_are_kept(tmp_path, name):
    save_benchmark(tmp_path / f"{name}.bin", [b"image"] * 40, [True, False] * 10)
    assert list(find_benchmarks(tmp_path)) == [name]


def test_hidden_files_are_no_benchmarks(tmp_path):
    """Archives packed on a Mac bring a ._x of every x."""
    save_benchmark(tmp_path / "lfw.bin", [b"image"] * 40, [True, False] * 10)
    for name in ("._lfw.bin", "._pairs.txt", "._x.xz", "._y.csv", "sets/._agedb.bin", ".z/a.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert find_benchmarks(tmp_path) == {"lfw": tmp_path / "lfw.bin"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A/1.jpg\nA/1.jpg\nA/1.jpg\n", "line 3: a pair is two lines"),
        ("A/1.jpg 1\nA/1.jpg 0\n", "lines 1 and 2: .* are no pair"),
        ("A/1.jpg\nA/1.jpg\n\n1.jpg\n2.jpg\n", "lines 4 and 5: '1.jpg' and '2.jpg' are no pair"),
        ("A/1.jpg\nA/2.jpg\n", r"lines 1 and 2: .*2\.jpg is missing \(1 "),
        (f"A/1.jpg\nA/{'x' * 5000}.jpg\n", r"lines 1 and 2: .*xxx is missing \(1 "),
        ("A/1.jpg\nA/\0.jpg\n", r"lines 1 and 2: .* is missing \(1 "),
        ("A/1.jpg\n/etc/passwd\n", "lines 1 and 2: /etc/passwd: leads out of"),
    ],
)
def test_what_is_wrong_in_two_lines_is_named(tmp_path, text, message):
    put(tmp_path, images=["A/1.jpg"], pair_X__txt=text)
    with pytest.raises(InputError, match=message):
        load_benchmark(tmp_path)


def test_csv(tmp_path):
    images = [f"{i}.png" for i in range(4)] + ["a, b.png"]
    rows = ['0.png,"a, b.png",1', ".\\\\1.png,2.png,False", "3.png,0.png,TRUE"] * 4
    put(tmp_path / "mine", images=images, pairs__csv="path1,path2,issame\n" + "\n".join(rows))
    benchmark = load_benchmark(tmp_path / "mine")
    assert (benchmark.name, benchmark.same.tolist()) == ("mine", [True, False, True] * 4)
    assert b" ".join(benchmark.images[:6]) == b"0.png a, b.png 1.png 2.png 3.png 0.png"
    folds = [7, 7, 2]
    rows = [f"{row.split(',')[-1]},{folds[n % 3]},0.png,1.png" for n, row in enumerate(rows)]
    put(tmp_path / "mine", pairs__csv="IsSame,fold,Path1,path2\n" + "\n".join(rows))
    assert load_benchmark(tmp_path / "mine").folds.tolist() == folds * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n", r"line 1: 'a,b,c'; expected path1,path2,issame"),
        ("", "line 1: ''"),
        ("path1,path2,issame\n0.png,0.png,2\n", "line 2"),
        ("path1,path2,issame\n0.png,0.png,1\n0.png,1\n", "line 3"),
        ("path1,path2,issame\n0.png,0.png,1,1\n", "line 2"),
        ("path1,path2,issame,fold\n0.png,0.png,1,\n", "line 2"),
        ("path1,path2,issame,fold\n0.png,0.png,1,1.5\n", "line 2"),
        (f"path1,path2,issame,fold\n0.png,0.png,1,{'9' * 5000}\n", "line 2"),
        ("path1,path2,issame,fold\n0.png,0.png,1,\u00b2\n", "line 2"),
        (f"path1,path2,issame\n{'x' * 140_000},0.png,1\n", "line 2"),
        ("path1,path2,issame,fold\n0.png,0.png,1,1\n", "one fold"),
        ("path1,path2,issame\n0.png,x/1.png,1\n", r"line 2: .*1\.png is missing"),
        ("path1,path2,issame\n0.png,../pairs.csv,1\n", r"line 2: \.\./pairs\.csv: leads out"),
    ],
)
def test_what_is_wrong_in_a_csv_is_named(tmp_path, text, message):
    put(tmp_path, images=["0.png"], pairs__csv=text)
    with pytest.raises(InputError, match=message):
        load_benchmark(tmp_path / "pairs.csv")


@pytest.fixture
def cfp(tmp_path):
    """Two people of two frontal and two profile images; two folds in the layout of CFP."""
    people = ("001", "002")
    shots = {"F": ("01", "02"), "P": ("11", "12")}
    split = tmp_path / "cfp-dataset/Protocol/Split"
    for kind, numbers in shots.items():
        names = [f"../Data/Images/{person}/{n}.jpg" for person in people for n in numbers]
        lines = "".join(f"{i} {name}\n" for i, name in enumerate(names, 1))
        images = [name.removeprefix("../") for name in names]
        put(split.parents[1], images=images)
        split.parent.mkdir(exist_ok=True)
        put(split.parent, **{f"Pair_list_{kind}__txt": lines})
    for kind in ("FF", "FP"):
        for fold, (same, diff) in {"10": ("1,2", "1,3"), "01": ("3,4", "4,1\n2,3")}.items():
            (split / kind / fold).mkdir(parents=True)
            put(split / kind / fold, same__txt=same + "\n", diff__txt=diff + "\n")
    return split


def test_cfp(cfp):
    found = find_benchmarks(cfp.parents[1])
    assert found == {"cfp_ff": cfp / "FF", "cfp_fp": cfp / "FP"}
    assert find_benchmarks(cfp.parents[2]) == found  # as one of several folders
    profile = load_benchmark(found["cfp_fp"])
    assert profile.name == "cfp_fp"
    assert profile.same.tolist() == [True, False, False, True, False]
    assert profile.folds.tolist() == [1, 1, 1, 10, 10]
    frontal, other = (
        ("001/01", "001/02", "002/01", "002/02"),
        ("001/11", "001/12", "002/11", "002/12"),
    )
    pairs = [(3, 4), (4, 1), (2, 3), (1, 2), (1, 3)]
    for benchmark, second in ((profile, other), (load_benchmark(found["cfp_ff"]), frontal)):
        names = [image.decode()[12:-4] for image in benchmark.images]
        assert names == [name for i, j in pairs for name in (frontal[i - 1], second[j - 1])]
    with pytest.raises(InputError, match="several benchmarks .cfp_ff, cfp_fp"):
        load_benchmark(cfp.parents[1])


def test_what_is_wrong_in_cfp_is_named(cfp):
    (cfp / "FP/10/diff.txt").write_text("1,2\n1,9\n")
    with pytest.raises(InputError, match=r"10/diff\.txt, line 2: '1,9'"):
        load_benchmark(cfp / "FP")
    (cfp / "FF/01/same.txt").unlink()
    with pytest.raises(InputError, match=r"01/same\.txt: missing"):
        load_benchmark(cfp / "FF")
    (cfp.parent / "Pair_list_F.txt").write_text("1 ../../../secret.jpg\n")
    with pytest.raises(InputError, match=r"Pair_list_F\.txt, line 1: .*leads out"):
        load_benchmark(cfp / "FP")
    (cfp.parent / "Pair_list_P.txt").unlink()
    (cfp.parent / "Pair_list_F.txt").write_text("1 ../Data/Images/001/01.jpg\n")
    with pytest.raises(InputError, match=r"Pair_list_P\.txt: missing"):
        load_benchmark(cfp / "FP")


def test_a_folder_mixes_all_forms(cfp, lfw, tmp_path):
    save_benchmark(tmp_path / "agedb_30.bin", IMAGES * 5, [True, False] * 5)
    (tmp_path / "calfw.xz").write_bytes(lzma.compress((tmp_path / "agedb_30.bin").read_bytes()))
    sllfw = ["C/C_0001.jpg", "C/C_0002.jpg", "C/C_0001.jpg", "A_B/A_B_0001.jpg"] * 5
    put(lfw, pair_SLLFW__txt="\n".join(sllfw), landmarks__csv="path,x1,y1\n")
    put(tmp_path, notes__txt="nothing", images=["photos/1.jpg"])
    found = find_benchmarks(tmp_path)
    assert list(found) == ["agedb_30", "calfw", "cfp_ff", "cfp_fp", "lfw", "sllfw"]
    for name, path in found.items():
        benchmark = load_benchmark(path)
        assert benchmark.name == name
        assert find_benchmarks(path) == {name: path}
        assert Counter(map(type, benchmark.images)) == {bytes: 2 * len(benchmark.same)}
    save_benchmark(tmp_path / "lfw.bin", IMAGES, [True, False])
    with pytest.raises(InputError, match=r"also named lfw"):
        find_benchmarks(tmp_path)


def test_sizes_must_fit_before_saving(tmp_path):
    with pytest.raises(ValueError, match="3 images for 2 pairs"):
        save_benchmark(tmp_path / "a.bin", IMAGES[:3], [True, False])


def test_benchmarks_are_found_by_name(tmp_path):
    for name in ("lfw", "agedb_30"):
        save_benchmark(tmp_path / f"{name}.bin", IMAGES, np.array([True, False]))
    assert list(find_benchmarks(tmp_path)) == ["agedb_30", "lfw"]
    assert find_benchmarks(tmp_path / "lfw.bin") == {"lfw": tmp_path / "lfw.bin"}
    (tmp_path / "other.zip").touch()
    (tmp_path / "empty").mkdir()
    for missing in (tmp_path / "x.bin", tmp_path / "nothing"):
        with pytest.raises(InputError, match="no benchmark"):
            find_benchmarks(missing)
        with pytest.raises(InputError, match="no such benchmark"):
            load_benchmark(missing)
    for pipe in ("a.bin", "a.xz", "pairs.txt", "a.csv"):
        os.mkfifo(tmp_path / "empty" / pipe)
        with pytest.raises(InputError, match=f"{pipe}: a pipe or device"):
            load_benchmark(tmp_path / "empty" / pipe)
        (tmp_path / "empty" / pipe).unlink()
    with pytest.raises(InputError, match=r"other\.zip: not a benchmark"):
        load_benchmark(tmp_path / "other.zip")
    with pytest.raises(InputError, match="no benchmark"):
        load_benchmark(tmp_path / "empty")


def test_every_different_picture_of_all_benchmarks_is_there_once(tmp_path):
    images = [b"picture %d" % (i % 30) for i in range(40)]
    save_benchmark(tmp_path / "a.bin", images, [True, False] * 10)
    save_benchmark(tmp_path / "b.bin", [b"new"] + images[1:], [True, False] * 10)
    faces = BenchmarkFaces(tmp_path)
    assert [faces.encoded(i) for i in range(len(faces))] == [*images[:30], b"new"]
    assert faces.labels.tolist() == list(range(31))
    assert faces.where(3) == f"{tmp_path / 'a.bin'}: picture 3"
    assert faces.where(30) == f"{tmp_path / 'b.bin'}: picture 0"


PICTURES = np.random.default_rng(0).integers(0, 256, (20, 3, 9, 9), np.uint8)


def put_array(folder, pictures=PICTURES, lines="1\n0\n" * 5):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{folder.name}.npy", pictures)
    (folder / "issame.txt").write_text(lines)
    return folder / f"{folder.name}.npy"


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_with_its_flags_is_a_benchmark(tmp_path, order):
    put_array(tmp_path / "agedb_30", np.array(PICTURES, order=order))
    save_benchmark(tmp_path / "lfw.bin", [b"x"] * 20, [True, False] * 5)
    np.save(tmp_path / "other.npy", PICTURES)  # without flags it is no benchmark
    assert list(find_benchmarks(tmp_path)) == ["agedb_30", "lfw"]
    for path in (tmp_path / "agedb_30", tmp_path / "agedb_30/agedb_30.npy"):
        benchmark = load_benchmark(path)
        assert benchmark.name == "agedb_30"
        assert benchmark.same.tolist() == [True, False] * 5
        assert len(benchmark.images) == 20
        for image, picture in zip(benchmark.images, PICTURES, strict=True):
            assert np.array_equal(decode(image, "it"), picture.transpose(1, 2, 0))
        assert benchmark.images[3:5] == [benchmark.images[3], benchmark.images[4]]


def test_arrays_of_one_kind_first_are_cut_as_a_list_is(tmp_path):
    put_array(tmp_path / "lfw", lines="1\n" * 5 + "0\n" * 5)
    with pytest.raises(InputError, match="folds"):
        load_benchmark(put_array(tmp_path / "few", PICTURES[:18], "1\n" * 5 + "0\n" * 4))
    pictures = np.concatenate([PICTURES, PICTURES[::-1]])
    path = put_array(tmp_path / "twice", pictures, "1\n" * 10 + "0\n" * 10)
    assert load_benchmark(path).folds.tolist() == [*range(10), *range(10)]
    assert len(BenchmarkFaces(path)) == 20  # each once


@pytest.mark.parametrize(
    ("pictures", "lines", "said"),
    [
        (PICTURES.astype(np.float32), "1\n0\n" * 5, r"lfw\.npy: float32 .*expected uint8"),
        (PICTURES.transpose(0, 2, 3, 1), "1\n0\n" * 5, r"lfw\.npy: uint8 \(20, 9, 9, 3\)"),
        (PICTURES[:, :, :8], "1\n0\n" * 5, "expected uint8"),
        (np.uint8(3), "1\n0\n" * 5, "expected uint8"),
        (np.array([None] * 20), "1\n0\n" * 5, "no numbers"),
        (PICTURES, "1\n0\n" * 4, "20 pictures for 8 lines"),
        (PICTURES, "", "20 pictures for 0 lines"),
        (PICTURES, "1\n0\n" * 4 + "1\n2\n", r"issame\.txt, line 10: '2'; expected 0 or 1"),
        (PICTURES, "1\n" * 10, "all 10 pairs"),
    ],
)
def test_what_is_wrong_with_an_array_is_named(tmp_path, pictures, lines, said):
    path = put_array(tmp_path / "lfw", pictures, lines)
    with pytest.raises(InputError, match=said):
        load_benchmark(path)


def test_an_array_holds_what_its_header_says_and_has_its_flags(tmp_path):
    path = put_array(tmp_path / "lfw")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(20, 3", b"(99, 3"))
    with pytest.raises(InputError, match="its header does not fit"):
        load_benchmark(path)
    path.write_bytes(whole)
    (tmp_path / "lfw/issame.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"issame\.txt: cannot be read"):
        load_benchmark(path)
    (tmp_path / "lfw/issame.txt").unlink()
    with pytest.raises(InputError, match="no issame.txt beside it"):
        load_benchmark(path)
