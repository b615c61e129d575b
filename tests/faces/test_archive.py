"""Archives of identity/image.jpg: contents as in the folder, and nothing that must not be there."""

import io
import stat
import struct
import subprocess
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.faces.readers import IMAGES
from tests.fuzz.limits import outcome
from vec2face.faces.reading import read_npz
from vec2face.faces.source import open_source
from vec2face.runtime.files import InputError

TREE = {f"{person}/{i}.jpg": IMAGES[7 * n + i] for n, person in enumerate("bca") for i in range(3)}
REST = {"readme.txt": b"about", "b/.hidden.jpg": b"no", "__MACOSX/b/._0.jpg": b"no"}


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tar_of(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


PACK = {"zip": zip_of, "tar": tar_of}


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("prefix", ["", "./", "faces/"])
def test_an_archive_reads_as_the_folder_sorted(tmp_path, kind, prefix):
    members = [(prefix + name, data) for name, data in (TREE | REST).items()]
    members = [m for m in members if "readme" not in m[0] or prefix]
    source = open_source(PACK[kind](tmp_path / "anything", reversed(members)))
    assert [source.encoded(i) for i in range(9)] == [TREE[name] for name in sorted(TREE)]
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert source.feature(0) is None
    assert source.where(3).endswith(f"anything, {prefix.strip('./')}{'/' * (prefix > '/')}b/0.jpg")
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(source.encoded, [i % 9 for i in range(90)]))) == 9


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_in_every_dialect(tmp_path, form):
    name = "identity-" + "x" * 70 + "/" + "y" * 80 + ".jpg"
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(IMAGES[5])
        archive.addfile(info, io.BytesIO(IMAGES[5]))
    source = open_source(tmp_path / "a.tar")
    assert source.encoded(0) == IMAGES[5]
    assert source.where(0).endswith(name)


def test_what_gnu_tar_writes_is_read(tmp_path):
    for name, data in TREE.items():
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / name).write_bytes(data)
    subprocess.run(["tar", "-cf", "a.tar", "-C", "faces", "."], cwd=tmp_path, check=True)
    source = open_source(tmp_path / "a.tar")
    assert [source.encoded(i) for i in range(9)] == [TREE[name] for name in sorted(TREE)]


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize(
    "name", ["/etc/a.jpg", "../a/b.jpg", "a/../../b.jpg", "a/b\\c.jpg", "C:/a.jpg"]
)
def test_names_that_lead_outside_refuse_the_archive(tmp_path, kind, name):
    path = PACK[kind](tmp_path / "a", [*TREE.items(), (name, IMAGES[0])])
    with pytest.raises(InputError, match=r"leads out of the archive; .*plain files only"):
        open_source(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("a/0.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    path = tar_of(tmp_path / "a.tar", [*TREE.items(), (info, b"")])
    with pytest.raises(InputError, match=r"a/0\.jpg: is a link or device"):
        open_source(path)


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("a/0.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = zip_of(tmp_path / "a.zip", [*TREE.items(), (info, b"/etc/passwd")])
    with pytest.raises(InputError, match=r"a/0\.jpg: is a link"):
        open_source(path)


@pytest.mark.parametrize("kind", PACK)
def test_twins_and_giants_are_refused(tmp_path, kind, monkeypatch):
    path = tmp_path / "a"
    with pytest.warns(UserWarning, match="Duplicate") if kind == "zip" else _nothing():
        PACK[kind](path, [("a/0.jpg", IMAGES[0]), ("./a/0.jpg", IMAGES[1]), ("a/0.jpg", b"")])
    with pytest.raises(InputError, match=r"a/0\.jpg: occurs twice"):
        open_source(path)
    monkeypatch.setattr("vec2face.faces.archive._LARGEST", 999)
    path = PACK[kind](tmp_path / "b", [("a/0.jpg", bytes(1000))])
    with pytest.raises(InputError, match="bytes are no face"):
        open_source(path)


class _nothing:  # noqa: N801
    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


@pytest.mark.parametrize("kind", PACK)
def test_truncated_archives_are_refused(tmp_path, kind):
    path = PACK[kind](tmp_path / "a", TREE.items())
    whole = path.read_bytes()
    used = len(whole.rstrip(b"\0"))  # a tar ends in blocks of zeros
    end = len(whole) if kind == "zip" else used + -used % 512
    for length in [*range(512, end, 512), end - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="copy it again"):
            open_source(path)


def test_a_damaged_header_does_not_end_a_tar_early(tmp_path):
    path = tar_of(tmp_path / "a.tar", TREE.items())
    with tarfile.open(path) as archive:
        fifth = archive.getmembers()[4].offset
    data = bytearray(path.read_bytes())
    data[fifth + 20] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"damaged or cut off at byte {fifth}"):
        open_source(path)


def test_damage_in_a_zip_is_found_by_its_checksum(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:  # stored, so that it can be found
        for name, data in TREE.items():
            archive.writestr(name, data)
    data = (tmp_path / "a.zip").read_bytes()
    at = data.index(TREE["b/1.jpg"]) + 30
    (tmp_path / "a.zip").write_bytes(data[:at] + b"\0\1\2" + data[at + 3 :])
    source = open_source(tmp_path / "a.zip")
    names = sorted(TREE)
    with pytest.raises(InputError, match=r"a\.zip, b/1\.jpg: cannot be read"):
        source.encoded(names.index("b/1.jpg"))
    assert source.encoded(0) == TREE[names[0]]


def test_encrypted_members_are_refused(tmp_path):
    path = zip_of(tmp_path / "a.zip", TREE.items())
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    (flags,) = struct.unpack_from("<H", data, at + 8)
    struct.pack_into("<H", data, at + 8, flags | 1)
    path.write_bytes(data)
    with pytest.raises(InputError, match="is encrypted"):
        open_source(path)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_compressed_tars_are_to_be_unpacked(tmp_path, mode):
    for name in ("a.tar.z", "a.tar"):
        path = tar_of(tmp_path / name, TREE.items(), mode)
        with pytest.raises(InputError, match="compressed as one piece.*unpack it"):
            open_source(path)


def test_archives_without_faces_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no images there; expected identity/image\.jpg"):
        open_source(zip_of(tmp_path / "a.zip", REST.items()))
    with pytest.raises(InputError, match=r"0\.jpg: lies in no identity's folder"):
        open_source(tar_of(tmp_path / "a.tar", [("0.jpg", IMAGES[0])]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "a.zip"]


@pytest.mark.parametrize("system", [0, 3])
def test_a_zip_of_windows_may_have_backslashes(tmp_path, system):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in TREE.items():
            info = zipfile.ZipInfo()
            info.filename, info.create_system = f"faces\\{name}".replace("/", "\\"), system
            archive.writestr(info, data)
    source = open_source(tmp_path / "a.zip")
    assert [source.encoded(i) for i in range(9)] == [TREE[name] for name in sorted(TREE)]
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("name", ["..\\a\\1.jpg", "\\a\\1.jpg", "c:\\a\\1.jpg"])
def test_backslashes_lead_nowhere_else(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo()
        info.filename, info.create_system = name, 0
        archive.writestr(info, IMAGES[0])
    with pytest.raises(InputError, match="leads out of the archive"):
        open_source(tmp_path / "a.zip")


def test_the_oldest_tar_has_no_mark(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/1.jpg").write_bytes(IMAGES[3])
    command = ["tar", "--format=v7", "-cf", tmp_path / "a.tar", "-C", tmp_path / "in", "a"]
    subprocess.run(command, check=True)
    assert open_source(tmp_path / "a.tar").encoded(0) == IMAGES[3]
    (tmp_path / "b.tar").write_bytes(b"no tar " * 300)
    with pytest.raises(InputError, match=r"b\.tar: .*not a whole \.tar"):
        open_source(tmp_path / "b.tar")


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_says_itself_how_much_memory_it_takes_is_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", kind) as archive:
        archive.writestr("a/0.jpg", bytes(1000))
    with pytest.raises(InputError, match=r"a/0\.jpg: is packed in a rare way; unpack"):
        open_source(tmp_path / "a.zip")


def claiming(path, size):
    """Let the list at a zip's end say that its first member takes ``size`` bytes."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2")
    content[at + 20 : at + 24] = size.to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("size", [10**6, 2**31 - 1, 2**32 - 2])
def test_a_zip_whose_list_claims_more_than_the_file_is_refused(tmp_path, kind, size):
    """Python would set that much memory aside before it reads."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", kind) as archive:
        archive.writestr("a/0.jpg", b"\xff\xd8\xff" + bytes(1000))
    claiming(tmp_path / "a.zip", size)
    said = outcome(open_source, tmp_path / "a.zip", megabytes=64)
    assert said
    assert f"takes {size} bytes of a file of" in said
    np.savez(tmp_path / "x.npz", one=np.ones(9))
    claiming(tmp_path / "x.npz", size)
    said = outcome(read_npz, tmp_path / "x.npz", "make it again", megabytes=64)
    assert said
    assert f"'one.npy': takes {size} bytes of a file of" in said


def header(name, size, kind=b"0"):
    """A tar's header with any size, in the base that GNU writes large and negative ones."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[-512:])
    block[124] = 0xFF if size < 0 else 0x80
    block[125:136] = (size % 256**11).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [-1, -512, -1024, -(2**40), 2**31, 2**62, 2**70])
@pytest.mark.parametrize("kind", [b"0", b"L", b"K", b"x", b"g", b"S", b"7"])
def test_a_tar_with_an_impossible_size_ends_at_once(tmp_path, size, kind):
    whole = header("a/0.jpg", 4) + b"face" + bytes(508)
    path = tmp_path / "a.tar"
    path.write_bytes(whole + header("a/1.jpg", size, kind) + bytes(512) + whole + bytes(1024))
    said = outcome(open_source, path, seconds=10)
    assert said
    assert said.startswith(str(path))


def test_a_chain_of_long_names_ends_at_once(tmp_path):
    (tmp_path / "a.tar").write_bytes((header("x", 5, b"L") + b"name\0" + bytes(507)) * 2000)
    assert "a.tar" in (outcome(open_source, tmp_path / "a.tar") or "")
