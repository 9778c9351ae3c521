from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brainit_eval.pictures.open import open_pictures, open_truth
from brainit_eval.pictures.sets import from_arrays, match_ids

SIZE = 16


def pixels(n: int, size: int = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def write_folder(folder: Path, ids: list[str], array: np.ndarray, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for name, picture in zip(ids, array, strict=True):
        Image.fromarray(picture).save(folder / f"{name}{suffix}")
    return folder


def all_of(pictures) -> np.ndarray:
    return (pictures.batch(range(len(pictures))) * 255).round().byte().permute(0, 2, 3, 1).numpy()


IDS = ["00012", "2951", "7", "100"]
ORDER = [2, 0, 3, 1]  # 7, 12, 100, 2951: by value, not by text


def test_a_folder_is_read_in_the_order_of_its_ids(tmp_path: Path) -> None:
    array = pixels(4)
    folder = write_folder(tmp_path / "mine", IDS, array)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".DS_Store").write_text("nor this")
    (pictures,) = open_pictures(folder, "subj01")["subj01"]
    assert pictures.ids == ("7", "12", "100", "2951")
    assert pictures.size == SIZE
    np.testing.assert_array_equal(all_of(pictures), array[ORDER])
    np.testing.assert_array_equal(pictures.batch(range(1, 3)), pictures.batch(range(4))[1:3])


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".npy"])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "channels first"])
def test_files_of_arrays_hold_the_same_pictures(tmp_path: Path, suffix: str, kind: str) -> None:
    array = pixels(4)
    stored = array if kind == "uint8" else array.astype(np.float32) / 255
    stored = stored.astype(np.float64) if kind == "float64" else stored
    stored = stored.transpose(0, 3, 1, 2) if kind == "channels first" else stored
    path = tmp_path / f"mine{suffix}"
    if suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["images"], file["image_id"] = stored, np.array([int(x) for x in IDS])
    elif suffix == ".npz":
        np.savez(path, images=stored, image_id=np.array(IDS))
    else:
        np.save(path, stored)
        path.with_suffix(".ids.txt").write_text("\n".join(IDS))
    (pictures,) = open_pictures(path)["subject"]
    assert pictures.ids == ("7", "12", "100", "2951")
    np.testing.assert_array_equal(all_of(pictures), array[ORDER])
    np.testing.assert_array_equal(all_of(pictures)[1:3], array[ORDER][1:3])


def test_subjects_and_samples_are_folders_or_groups(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        for s, subject in enumerate(("subj01", "subj02")):
            for sample in ("seed2", "seed10"):
                array = pixels(4, seed=10 * s + int(sample.removeprefix("seed")))
                write_folder(tmp_path / "mine" / subject / sample, IDS, array)
                group = file.create_group(f"{subject}/{sample}")
                group["images"], group["image_id"] = array, IDS
    for place in (tmp_path / "mine", tmp_path / "mine.h5"):
        sets = open_pictures(place)
        assert {k: len(v) for k, v in sets.items()} == {"subj01": 2, "subj02": 2}
        for k, seed in enumerate((12, 20)):  # seed2 before seed10
            found = all_of(sets["subj02"][k])
            np.testing.assert_array_equal(found, pixels(4, seed=seed)[ORDER])
        with pytest.raises(ValueError, match="got samples"):
            open_truth(place)


def test_the_truth_is_one_set_or_one_per_subject(tmp_path: Path) -> None:
    one = open_truth(write_folder(tmp_path / "one", IDS, pixels(4)))
    assert one.ids == ("7", "12", "100", "2951")
    write_folder(tmp_path / "many" / "subj01", IDS, pixels(4))
    write_folder(tmp_path / "many" / "subj02", IDS, pixels(4))
    assert set(open_truth(tmp_path / "many")) == {"subj01", "subj02"}


def test_the_hash_follows_content_and_ids(tmp_path: Path) -> None:
    array = pixels(4)
    first = open_truth(write_folder(tmp_path / "a", IDS, array)).sha256()
    assert open_truth(write_folder(tmp_path / "b", IDS, array)).sha256() == first
    assert open_truth(write_folder(tmp_path / "c", IDS[::-1], array)).sha256() != first
    changed = array.copy()
    changed[3, 5, 5, 0] ^= 1
    assert open_truth(write_folder(tmp_path / "d", IDS, changed)).sha256() != first
    assert from_arrays(array, IDS).sha256() == from_arrays(array[::-1], IDS[::-1]).sha256()
    assert from_arrays(array, IDS).sha256() != from_arrays(changed, IDS).sha256()


def test_ids_that_do_not_match_are_named() -> None:
    truth = from_arrays(pixels(4), IDS, "truth")
    match_ids(from_arrays(pixels(4)[::-1], IDS[::-1], "mine"), truth)
    with pytest.raises(ValueError, match=r"mine: .* 4 true images; 1 missing: 2951$"):
        match_ids(from_arrays(pixels(3), ["12", "7", "100"], "mine"), truth)
    with pytest.raises(ValueError, match=r"1 missing: 2951; 1 never seen: 2952"):
        match_ids(from_arrays(pixels(4), ["12", "2952", "7", "100"], "mine"), truth)
    with pytest.raises(ValueError, match=r"7 never seen: 0, 1, 2, 3, 4, \.\.\.$"):
        match_ids(from_arrays(pixels(11), [*range(7), *IDS[:2], "100", "7"], "mine"), truth)


def save(path: Path, picture: np.ndarray, mode: str | None = None, **options) -> None:
    image = Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(path, **options)


def test_grey_palette_and_opaque_alpha_become_rgb(tmp_path: Path) -> None:
    picture = pixels(1)[0]
    grey = np.repeat(picture[:, :, :1], 3, axis=2)
    folder = write_folder(tmp_path / "mine", ["1"], picture[None])
    save(folder / "2.png", grey[:, :, 0])
    save(folder / "3.png", picture, "RGBA")
    few = (picture // 128 * 255).astype(np.uint8)
    save(folder / "4.png", few, "P")
    found = all_of(open_truth(folder))
    np.testing.assert_array_equal(found[:3], np.stack([picture, grey, picture]))
    np.testing.assert_array_equal(
        found[3], np.asarray(Image.fromarray(few).convert("P").convert("RGB"))
    )


def test_the_exif_orientation_changes_nothing(tmp_path: Path) -> None:
    picture = Image.fromarray(pixels(1)[0])
    for name, orientation in (("1", None), ("2", 6)):
        exif = Image.Exif()
        if orientation:
            exif[0x0112] = orientation
        (tmp_path / "mine").mkdir(exist_ok=True)
        picture.save(tmp_path / "mine" / f"{name}.jpg", quality=95, exif=exif)
    found = all_of(open_truth(tmp_path / "mine"))
    np.testing.assert_array_equal(found[0], found[1])


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


NOISE = Image.fromarray(pixels(1, seed=3)[0])
SEE_THROUGH = NOISE.convert("RGBA")
SEE_THROUGH.putpixel((3, 3), (1, 2, 3, 254))
BAD_FILES = {
    "empty.png": (b"", "not readable"),
    "text.png": (b"<script>alert(1)</script>", "not readable"),
    "gif.png": (encoded(NOISE, "GIF"), "not readable"),
    "bomb.png": (bomb(100_000, 100_000), r"4096 px a side|not readable"),
    "large.png": (bomb(4097, 4097), "4096 px a side"),
    "zero.png": (bomb(0, 16), "not readable|square"),
    "cmyk.jpg": (encoded(NOISE.convert("CMYK"), "JPEG"), "8-bit RGB or grey, got mode CMYK"),
    "deep.png": (encoded(Image.new("I;16", (SIZE, SIZE)), "PNG"), "8-bit RGB or grey"),
    "alpha.png": (encoded(SEE_THROUGH, "PNG"), "opaque"),
    "moving.png": (
        encoded(NOISE, "PNG", save_all=True, append_images=[NOISE.rotate(90)]),
        "an animation",
    ),
    "odd.png": (encoded(NOISE.resize((16, 17)), "PNG"), "expected 16 x 16 px|got 16 x 17"),
    "wide.png": (encoded(NOISE.resize((32, 32)), "PNG"), "expected 16 x 16 px|got 32 x 32"),
}


@pytest.mark.parametrize("name", list(BAD_FILES))
def test_a_bad_picture_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    folder = write_folder(tmp_path / "mine", ["1", "zz"], pixels(2))
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        all_of(open_truth(folder))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path: Path, kind: str) -> None:
    picture = Image.fromarray(pixels(1, 64)[0])
    content = encoded(picture, kind)
    (tmp_path / "mine").mkdir()
    path, whole = tmp_path / "mine" / "1.png", tmp_path / "mine" / "2.png"
    whole.write_bytes(content)
    refused = 0
    for size in range(0, len(content), 64):
        path.write_bytes(content[:size])
        with suppress(ValueError):
            found = all_of(open_truth(tmp_path / "mine"))
            np.testing.assert_array_equal(found[0], found[1])
            continue
        refused += 1
    assert refused >= len(content) // 64 - 1


HOSTILE = ["..", "a/b", "a\nb", "a\0b", "=cmd()", "+1", "-1", "@x", "<script>", "x" * 101, "é", " "]


@pytest.mark.parametrize("value", [*HOSTILE, 1.5, None, True, -1, float("nan"), "\u202eabc", "😀"])
def test_hostile_ids_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="image id") as caught:
        from_arrays(pixels(2), ["1", value])
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pixels(2).astype(np.int32), "uint8 or floating-point"),
        (pixels(2).astype(object), "uint8 or floating-point"),
        (pixels(2)[:, :, :, :1], r"\[n, H, W, 3\]"),
        (pixels(2)[0], r"\[n, H, W, 3\]"),
        (pixels(2)[:, :, :12], "square pictures"),
        (pixels(2, 10), "11 to 4096 px, got 10 x 10"),
        (pixels(3), "one id for each of 3"),
        (pixels(1), "one id for each of 1"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_arrays(array, [1, 2], "mine")


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN"), (np.inf, "NaN or inf"), (1.01, r"0, 1\], got"), (-0.01, r"0, 1\], got")],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixels_that_are_none_name_their_image(value: float, message: str, dtype: type) -> None:
    array = pixels(3).astype(dtype) / dtype(255)
    array[1, 2, 3, 0] = value
    with pytest.raises(ValueError, match=f"mine: image 22: .*{message}"):
        from_arrays(array, [1, 22, 333], "mine").batch(range(3))


def test_an_id_twice_and_a_single_image_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", ["7", "07", "8"], pixels(3))
    with pytest.raises(ValueError, match="image 7 occurs twice"):
        open_truth(folder)
    with pytest.raises(ValueError, match="2 images or more"):
        from_arrays(pixels(1), ["1"])


def test_folders_that_are_mixed_empty_or_deep_are_refused(tmp_path: Path) -> None:
    mixed = write_folder(tmp_path / "mixed", ["1", "2"], pixels(2))
    write_folder(mixed / "subj01", ["1", "2"], pixels(2))
    write_folder(tmp_path / "deep" / "a" / "b" / "c", ["1", "2"], pixels(2))
    write_folder(tmp_path / "uneven" / "a" / "0", ["1", "2"], pixels(2))
    write_folder(tmp_path / "uneven" / "b" / "0", ["1", "2"], pixels(2))
    write_folder(tmp_path / "uneven" / "b" / "1", ["1", "2"], pixels(2))
    write_folder(tmp_path / "names" / "=cmd()", ["1", "2"], pixels(2))
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("mixed", "either pictures"),
        ("empty", "either pictures"),
        ("deep", "deeper|either"),
        ("uneven", "as many samples"),
        ("names", "subject"),
    ):
        with pytest.raises(ValueError, match=message):
            open_pictures(tmp_path / name)


def test_files_that_hold_no_pictures_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["images"] = h5py.ExternalLink("elsewhere.h5", "/images")
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["images"] = pixels(2)
    (tmp_path / "text.h5").write_text("no")
    np.save(tmp_path / "alone.npy", pixels(2))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", images=np.array([{}], dtype=object), image_id=[1])
    (tmp_path / "text.npy").write_text("no")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "x.zip").write_bytes(b"")
    for name in ("link.h5", "bare.h5", "text.h5", "objects.npy", "objects.npz", "text.npy"):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")) as caught:
            open_truth(tmp_path / name)
        assert "\n" not in str(caught.value)
    for name in ("empty.npz", "x.zip"):
        with pytest.raises(ValueError, match="expected"):
            open_truth(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"alone\.ids\.txt"):
        open_truth(tmp_path / "alone.npy")
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_truth(tmp_path / "nothing")


def test_tensors_are_taken_as_they_are() -> None:
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found = from_arrays(images, [3, 1, 2]).batch(range(3))
    torch.testing.assert_close(found, images[[1, 2, 0]], rtol=0, atol=0)
