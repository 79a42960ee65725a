"""Each reader on a small replica of its data set's layout, quirks included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs
from scipy.io import savemat

from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages
from grepq_iqa.benchmark.datasets.registry import REGISTRY, find_dataset, read
from grepq_iqa.data.labels import read_labels
from grepq_iqa.errors import LabelsError, UsageError

openpyxl = needs("openpyxl")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)


def workbook(path: Path, sheets: dict[str, Sequence[Sequence[Any]]]) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def cells(values: Sequence[str], column: bool = False) -> np.ndarray:
    array = np.empty((len(values), 1) if column else (1, len(values)), dtype=object)
    array.ravel()[:] = list(values)
    return array


def names(images: LabeledImages) -> list[str]:
    return [path.name for path in images.paths]


class TestClive:
    def make(self, root: Path, entries: int = 12) -> list[str]:
        files = [f"{i}.bmp" if i % 2 else f"{i}.JPG" for i in range(entries)]
        (root / "Data").mkdir(parents=True)
        savemat(root / "Data/AllImages_release.mat", {"AllImages_release": cells(files, column=True)})
        savemat(root / "Data/AllMOS_release.mat", {"AllMOS_release": np.arange(entries, dtype=float)[None]})
        return files

    def test_names_and_scores(self, tmp_path: Path):
        files = self.make(tmp_path)
        touch(tmp_path / "Images", *files)
        images = read("clive", tmp_path)
        assert names(images) == files
        np.testing.assert_array_equal(images.mos, np.arange(12))
        assert images.groups is None and images.split is None and images.missing == ()

    def test_the_seven_example_images_of_the_full_set_are_left_out(self, tmp_path: Path):
        files = self.make(tmp_path, entries=1169)
        touch(tmp_path / "Images", *files[7:])
        touch(tmp_path / "Images/trainingImages", *files[:7])
        images = read("clive", tmp_path)
        assert len(images) == 1162 and not images.missing
        assert images.mos[0] == 7

    def test_one_folder_down_other_case_and_a_missing_file(self, tmp_path: Path):
        files = self.make(tmp_path / "ChallengeDB_release")
        touch(tmp_path / "ChallengeDB_release/images", *(name.lower() for name in files[:-1]))
        images = read("CLIVE", tmp_path)
        assert names(images) == [name.lower() for name in files[:-1]]
        assert images.missing == (files[-1],)

    def test_names_and_scores_of_different_number(self, tmp_path: Path):
        self.make(tmp_path)
        savemat(tmp_path / "Data/AllMOS_release.mat", {"AllMOS_release": np.zeros((1, 5))})
        with pytest.raises(LabelsError, match=r"12 names .* 5 scores"):
            read("clive", tmp_path)

    def test_another_file_in_its_place(self, tmp_path: Path):
        self.make(tmp_path)
        savemat(tmp_path / "Data/AllMOS_release.mat", {"AllStdDev_release": np.zeros((1, 12))})
        with pytest.raises(LabelsError, match="no variable AllMOS_release; it has AllStdDev_release"):
            read("clive", tmp_path)
        (tmp_path / "Data/AllMOS_release.mat").write_bytes(b"<html>please log in</html>")
        with pytest.raises(LabelsError, match="not a readable MAT file"):
            read("clive", tmp_path)


class TestKoniq:
    SCORES = (
        '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n'
        '"10004473376.jpg",0,0,25,73,7,105,3.83,0.53,77.4\n"10007357496.jpg",0,3,45,47,1,96,3.48,0.57,65.9\n'
        '"10007903636.jpg",1,0,20,73,2,96,3.78,0.55,75.8\n'
    )
    SETS = (
        "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n10004473376.jpg,0,0,25,73,7,105,77.38,14.6,training\n"
        "10007357496.jpg,0,3,45,47,1,96,65.92,16.0,validation\n10007903636.jpg,1,0,20,73,2,96,75.8,15.6,test\n"
    )
    FILES = ("10004473376.jpg", "10007357496.jpg", "10007903636.jpg")

    def test_z_scores_without_split(self, tmp_path: Path):
        write(tmp_path / "koniq10k_scores_and_distributions.csv", self.SCORES)
        touch(tmp_path / "1024x768", *self.FILES)
        images = read("koniq-10k", tmp_path)
        np.testing.assert_allclose(images.mos, [77.4, 65.9, 75.8])
        assert images.split is None

    def test_split_beside_it_and_the_larger_images_first(self, tmp_path: Path):
        write(tmp_path / "koniq10k_scores_and_distributions.csv", self.SCORES, "utf-8-sig")
        write(tmp_path / "koniq10k_distributions_sets.csv", self.SETS)
        touch(tmp_path / "512x384", *self.FILES)
        touch(tmp_path / "1024x768", *self.FILES[:2])
        images = read("koniq", tmp_path)
        np.testing.assert_allclose(images.mos, [77.4, 65.9, 75.8])
        assert images.split is not None and list(images.split) == ["train", "val", "test"]
        assert [path.parent.name for path in images.paths] == ["1024x768", "1024x768", "512x384"]

    def test_split_file_alone(self, tmp_path: Path):
        write(tmp_path / "koniq10k_distributions_sets.csv", self.SETS)
        touch(tmp_path / "1024x768", *self.FILES)
        np.testing.assert_allclose(read("koniq10k", tmp_path).mos, [77.38, 65.92, 75.8])

    def test_an_unknown_part_is_named(self, tmp_path: Path):
        write(tmp_path / "koniq10k_distributions_sets.csv", self.SETS.replace("validation", "vlidation"))
        touch(tmp_path / "1024x768", *self.FILES)
        with pytest.raises(LabelsError, match="line 3: unknown part 'vlidation'"):
            read("koniq-10k", tmp_path)


class TestFlive:
    def make(self, root: Path, small: str, large: str) -> None:
        write(
            root / "labels_image.csv", "name,mos,extra\nvoc/JPEGImages__1.jpg,70.5,x\nAVA/a.jpg,60,x\nblur/b.JPG,50,\n"
        )
        write(root / small, "name_image,mos_image,is_valid\nvoc/JPEGImages__1.jpg,70.5,False\nAVA/a.jpg,60,True\n")
        write(root / large, "name_image,mos_image\nblur/b.JPG,50\n")
        touch(root / "database", "voc/JPEGImages__1.jpg", "ava/a.jpg", "blur/b.jpg")

    @pytest.mark.parametrize(
        "files", [("labels<=640_padded.csv", "labels>640.csv"), ("labels=640_padded.csv", "labels640.csv")]
    )
    def test_pictures_in_folders_and_the_split(self, tmp_path: Path, files: tuple[str, str]):
        self.make(tmp_path, *files)
        images = read("flive", tmp_path)
        np.testing.assert_allclose(images.mos, [70.5, 60, 50])
        assert images.split is not None and list(images.split) == ["train", "val", "test"]
        assert images.missing == ()

    def test_without_the_split_files(self, tmp_path: Path):
        self.make(tmp_path, "other.csv", "another.csv")
        assert read("paq2piq", tmp_path).split is None


class TestSpaq:
    ROWS = (
        ("Image name", "MOS", "Brightness", "Colorfulness"),
        ("00001.jpg", 51.84, 48, 53),
        ("00002.JPG", 46, 42.5, 50),
        ("00003.jpg", 70.25, 60, 61),
        (None, None, None, None),
    )

    def test_workbook(self, tmp_path: Path):
        workbook(tmp_path / "Annotations/MOS and Image attribute scores.xlsx", {"Sheet1": self.ROWS})
        touch(tmp_path / "TestImage", "00001.jpg", "00002.jpg")
        images = read("spaq", tmp_path)
        assert names(images) == ["00001.jpg", "00002.jpg"]
        np.testing.assert_allclose(images.mos, [51.84, 46])
        assert images.missing == ("00003.jpg",)

    @pytest.mark.parametrize("folder", ["TestImage/TestImage", "Dataset/TestImage"])
    def test_images_as_archives_unpack_them(self, tmp_path: Path, folder: str):
        workbook(tmp_path / "Annotations/MOS and Image attribute scores.xlsx", {"Sheet1": self.ROWS})
        touch(tmp_path / folder, "00001.jpg", "00002.jpg", "00003.jpg")
        assert len(read("spaq", tmp_path)) == 3

    def test_a_damaged_workbook(self, tmp_path: Path):
        write(tmp_path / "annotations/MOS and Image attribute scores.xlsx", "not a zip")
        with pytest.raises(LabelsError, match="not a readable XLSX file"):
            read("spaq", tmp_path)

    def test_other_columns(self, tmp_path: Path):
        workbook(tmp_path / "Annotations/MOS and Image attribute scores.xlsx", {"S": [("File", "Score"), ("a", 1)]})
        with pytest.raises(LabelsError, match="no sheet with the columns Image name, MOS"):
            read("spaq", tmp_path)


class TestBiq2021:
    def test_both_parts_with_empty_columns(self, tmp_path: Path):
        write(tmp_path / "Train (Images and MOS).csv", "Image Name,MOS,,\nss03 (1).jpg,0.8,,\nss01 (2).jpg,0.2,,\n")
        write(tmp_path / "Test (Images and MOS).csv", "Image Name,MOS,,\nss02 (3).jpg,0.5,,\n,,,\n")
        write(tmp_path / "Train.csv", "Image Name,MOS\nss03 (1).jpg,-0.1\n")
        touch(tmp_path / "Images", "ss03 (1).jpg", "ss01 (2).jpg", "ss02 (3).jpg")
        images = read("biq2021", tmp_path)
        np.testing.assert_allclose(images.mos, [0.8, 0.2, 0.5])
        assert images.split is not None and list(images.split) == ["train", "train", "test"]

    def test_the_older_tables_and_one_part_alone(self, tmp_path: Path):
        write(tmp_path / "Test.csv", "Image Name,MOS\nss02 (3).jpg,-0.00468\n")
        touch(tmp_path / "Images", "ss02 (3).jpg")
        images = read("biq2021", tmp_path)
        assert images.mos[0] == -0.00468
        assert images.split is not None and list(images.split) == ["test"]

    def test_nothing_there(self, tmp_path: Path):
        with pytest.raises(UsageError, match=r"Train \(Images and MOS\).csv or Train.csv was not found"):
            read("biq2021", tmp_path)


class TestLive:
    FOLDERS = ("jp2k", "jpeg", "wn", "gblur", "fastfading")

    def make(self, root: Path, per_folder: int, dmos: np.ndarray, orgs: np.ndarray, refs: list[str]) -> None:
        root.mkdir(parents=True, exist_ok=True)
        for folder in self.FOLDERS:
            touch(root / folder, *(f"img{i + 1}.bmp" for i in range(per_folder)))
            write(root / folder / "info.txt", "".join(f"r.bmp img{i + 1}.bmp 0.5\n" for i in range(per_folder)) + "\n")
        savemat(root / "dmos_realigned.mat", {"dmos_new": dmos[None], "orgs": orgs[None], "dmos_std": dmos[None]})
        savemat(root / "dmos.mat", {"dmos": dmos[None] + 1000, "orgs": orgs[None]})
        savemat(root / "refnames_all.mat", {"refnames_all": cells(refs)})

    def test_order_direction_references_and_no_originals(self, tmp_path: Path):
        dmos, orgs = np.arange(10.0), np.zeros(10)
        orgs[[1, 6]] = 1
        refs = ["buildings.bmp", "Bikes.bmp"] * 5
        self.make(tmp_path / "databaserelease2", 2, dmos, orgs, refs)
        images = read("live", tmp_path)
        wanted = [i for i in range(10) if i not in (1, 6)]
        np.testing.assert_allclose(images.mos, 100 - dmos[wanted])
        assert [f"{p.parent.name}/{p.name}" for p in images.paths] == [
            f"{self.FOLDERS[i // 2]}/img{i % 2 + 1}.bmp" for i in wanted
        ]
        assert images.groups is not None and list(images.groups) == [refs[i].lower() for i in wanted]

    def test_scores_before_realignment_where_there_are_no_others(self, tmp_path: Path):
        self.make(tmp_path, 1, np.arange(5.0), np.zeros(5), ["a.bmp"] * 5)
        (tmp_path / "dmos_realigned.mat").unlink()
        np.testing.assert_allclose(read("live", tmp_path).mos, 100 - (np.arange(5) + 1000))

    def test_release_2_needs_no_info_files(self, tmp_path: Path):
        sizes = (227, 233, 174, 174, 174)
        self.make(tmp_path, 0, np.arange(982.0), np.zeros(982), ["a.bmp"] * 982)
        for folder, size in zip(self.FOLDERS, sizes, strict=True):
            (tmp_path / folder / "info.txt").unlink()
            touch(tmp_path / folder, f"img{size}.bmp")
        images = read("live", tmp_path)
        np.testing.assert_allclose(100 - images.mos, np.cumsum(sizes) - 1)
        assert len(images.missing) == 982 - 5

    def test_arrays_that_fit_no_folders(self, tmp_path: Path):
        self.make(tmp_path, 2, np.arange(9.0), np.zeros(9), ["a.bmp"] * 9)
        with pytest.raises(LabelsError, match=r"9 scores, but .* list 10 images"):
            read("live", tmp_path)


class TestCsiq:
    ROWS = (
        (None, None, None, "CSIQ DMOS by image"),
        (),
        (),
        (None, None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"),
        (None, None, None, 1600, 1, "noise", 1, 0.06, 0.062),
        (None, None, None, "boston", 2, "blur", 3, 0.06, 0.5),
        (None, None, None, "1600", 3, "contrast", 5.0, 0.1, 0.9),
        (None, None, None, "lady_liberty", 4, "fnoise", 2, 0.1, 0.25),
        (None, None, None, "1600", 5, "jpeg", 4, 0.1, 0.75),
        (None, None, None, "1600", 6, "jpeg 2000", 1, 0.1, 0.125),
    )
    FILES = (
        "awgn/1600.AWGN.1.png",
        "blur/boston.BLUR.3.png",
        "contrast/1600.contrast.5.png",
        "fnoise/lady_liberty.fnoise.2.png",
        "jpeg/1600.JPEG.4.png",
        "jpeg2000/1600.jpeg2000.1.png",
    )

    def test_sheet_of_all_images_among_others(self, tmp_path: Path):
        workbook(tmp_path / "csiq.DMOS.xlsx", {"all_by_distortion": [("x",)], "all_by_image": self.ROWS})
        touch(tmp_path / "dst_imgs", *self.FILES)
        images = read("csiq", tmp_path)
        np.testing.assert_allclose(images.mos, [0.938, 0.5, 0.1, 0.75, 0.25, 0.875])
        assert names(images) == [Path(file).name for file in self.FILES]
        assert images.groups is not None
        assert list(images.groups) == ["1600", "boston", "1600", "lady_liberty", "1600", "1600"]

    def test_all_images_in_one_folder_and_one_missing(self, tmp_path: Path):
        workbook(tmp_path / "CSIQ/csiq.DMOS.xlsx", {"all_by_image": self.ROWS})
        touch(tmp_path / "CSIQ/dst_imgs_all", *(Path(file).name for file in self.FILES[1:]))
        images = read("csiq", tmp_path)
        assert len(images) == 5 and images.missing == ("1600.awgn.1.png",)


class TestTid2013:
    def test_names_in_three_cases(self, tmp_path: Path):
        write(
            tmp_path / "mos_with_names.txt", "5.51429 I01_01_1.bmp\r\n5.56757 i01_01_2.bmp\r\n4.9 i25_24_5.bmp\r\n\r\n"
        )
        touch(tmp_path / "distorted_images", "i01_01_1.bmp", "I01_01_2.BMP", "i25_24_5.bmp")
        images = read("tid2013", tmp_path)
        np.testing.assert_allclose(images.mos, [5.51429, 5.56757, 4.9])
        assert images.groups is not None and list(images.groups) == ["i01", "i01", "i25"]

    def test_bad_lines_are_all_named(self, tmp_path: Path):
        write(tmp_path / "mos_with_names.txt", "5.5 I01_01_1.bmp\nI01_01_2.bmp 5.5\n5.5\n")
        with pytest.raises(LabelsError) as caught:
            read("tid2013", tmp_path)
        assert [problem.split(":")[0] for problem in caught.value.problems] == ["line 2", "line 3"]


def test_kadid_calls_ratings_dmos_but_higher_is_better(tmp_path: Path):
    write(
        tmp_path / "kadid10k/dmos.csv",
        "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.49\nI02_01_05.png,I02.png,1.2,0.3\n",
    )
    touch(tmp_path / "kadid10k/images", "I01_01_01.png", "I02_01_05.png", "I01.png")
    images = read("kadid-10k", tmp_path)
    np.testing.assert_allclose(images.mos, [4.57, 1.2])
    assert images.groups is not None and list(images.groups) == ["i01.png", "i02.png"]


class TestPipal:
    @pytest.mark.parametrize("folder", ["Train_Dist", "Distortion_2", "Distortion_3/Distortion_3"])
    def test_layouts(self, tmp_path: Path, folder: str):
        write(tmp_path / "Train_Label/A0001.txt", "A0001_00_00.bmp,1520.0648\nA0001_00_01.bmp, 1400.5\n")
        write(tmp_path / "Train_Label/A0002.txt", "A0002_06_13.bmp,1600\n")
        touch(tmp_path / folder, "A0001_00_00.bmp", "A0001_00_01.bmp", "A0002_06_13.bmp")
        images = read("pipal", tmp_path)
        np.testing.assert_allclose(images.mos, [1520.0648, 1400.5, 1600])
        assert images.groups is not None and list(images.groups) == ["a0001", "a0001", "a0002"]

    def test_labels_one_folder_down(self, tmp_path: Path):
        write(tmp_path / "PIPAL/train_label/A0007.txt", "A0007_00_00.bmp,1520\n")
        touch(tmp_path / "PIPAL/Train_Dist", "A0007_00_00.bmp")
        assert len(read("pipal", tmp_path)) == 1

    def test_a_line_without_comma(self, tmp_path: Path):
        write(tmp_path / "Train_Label/A0001.txt", "A0001_00_00.bmp 1520\n")
        with pytest.raises(LabelsError, match=r"A0001.txt, line 1: expected"):
            read("pipal", tmp_path)


class TestAgiqa1k:
    FILES = ("deepai_9_6_0_1.jpg", "dreamStudio_9_6_1_0.jpg", "dreamStudio_8_9_1_.jpg")

    def test_workbook_and_shared_subjects(self, tmp_path: Path):
        rows = [("Image", "Prompt", "MOS"), *((file, "alien, city", 2.5 + i) for i, file in enumerate(self.FILES))]
        workbook(tmp_path / "AIGC_MOS_Zscore.xlsx", {"Sheet1": rows})
        touch(tmp_path / "file", *self.FILES)
        images = read("agiqa-1k", tmp_path)
        np.testing.assert_allclose(images.mos, [2.5, 3.5, 4.5])
        assert images.groups is not None and list(images.groups) == ["9_6", "9_6", "8_9"]

    def test_of_two_scores_in_the_authors_workbook_the_first_is_kept_and_it_is_said(self, tmp_path: Path):
        rows = [("Image", "Prompt", "MOS"), *((file, "alien, city", 2.5 + i) for i, file in enumerate(self.FILES))]
        workbook(tmp_path / "AIGC_MOS_Zscore.xlsx", {"Sheet1": [*rows, (self.FILES[0], "alien, city", 1.25)]})
        touch(tmp_path / "file", *self.FILES)
        images = read("agiqa-1k", tmp_path)
        np.testing.assert_allclose(images.mos, [2.5, 3.5, 4.5])
        [note] = images.notes
        assert self.FILES[0] in note and "the first, 2.5, was kept" in note and "1.25 (" in note
        assert images.take([0, 1]).notes == images.notes

    def test_the_repository_table(self, tmp_path: Path):
        write(tmp_path / "AIGC_all.csv", "Image,Score\n" + "".join(f"{file},1.5\n" for file in self.FILES))
        touch(tmp_path / "images", *self.FILES)
        np.testing.assert_allclose(read("agiqa1k", tmp_path).mos, 1.5)


def test_agiqa3k_reads_quality_not_alignment_and_groups_by_prompt(tmp_path: Path):
    write(
        tmp_path / "data.csv",
        "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n"
        'AttnGAN_normal_060.jpg,"artwork with only triangles, anime style",,,anime style,0.92,0.7,4.1,0.8\n'
        'sd1.5_normal_060.jpg,"Artwork with only triangles, anime style",,,anime style,3.5,0.7,4.1,0.8\n'
        "sd1.5_normal_001.jpg,a tray of sushi,,,,2.5,0.7,4.1,0.8\n",
    )
    touch(tmp_path, "AttnGAN_normal_060.jpg", "sd1.5_normal_060.jpg")
    touch(tmp_path / "images", "sd1.5_normal_001.jpg")
    images = read("agiqa-3k", tmp_path)
    np.testing.assert_allclose(images.mos, [0.92, 3.5, 2.5])
    assert images.groups is not None and images.groups[0] == images.groups[1] != images.groups[2]


class TestTable:
    def test_extra_columns_and_images_in_a_folder_of_their_own(self, tmp_path: Path):
        write(tmp_path / "labels.csv", "camera,image,mos\nx,a.png,1\ny,b.png,2\n", "utf-8-sig")
        touch(tmp_path / "images", "a.png")
        touch(tmp_path, "b.png")
        images = read("csv", tmp_path)
        assert names(images) == ["a.png", "b.png"] and list(images.mos) == [1, 2]
        assert images.groups is None and images.split is None

    def test_groups_split_and_semicolons(self, tmp_path: Path):
        write(tmp_path / "table.csv", "Path;Score;Reference;Set\nd\\a.png;1,5;r1;training\nd/b.png;2;r1;Test\n")
        touch(tmp_path / "d", "a.png", "b.png")
        images = read("csv", tmp_path)
        assert images.groups is not None and list(images.groups) == ["r1", "r1"]
        assert images.split is not None and list(images.split) == ["train", "test"]
        assert images.mos[0] == 1.5

    @pytest.mark.parametrize(("header", "options"), [("image,dmos", {}), ("image,mos", {"lower_is_better": True})])
    def test_distortion_scores_are_turned_round(self, tmp_path: Path, header: str, options: dict[str, bool]):
        write(tmp_path / "labels.csv", f"{header}\na.png,10\n")
        touch(tmp_path, "a.png")
        images = read("csv", tmp_path, **options)
        assert images.mos[0] == -10 and images.scale.startswith("-")

    @pytest.mark.parametrize("column", ["mos", "dmos", "DMOS", " Dmos ", "score"])
    @pytest.mark.parametrize("lower_is_better", [None, True, False])
    def test_direction_and_figures_are_those_that_fit_reads(
        self, tmp_path: Path, column: str, lower_is_better: bool | None
    ):
        """A ``dmos`` column is lower-is-better in both unless told otherwise; only ``benchmark`` turns the figures."""
        write(tmp_path / "labels.csv", f"image;{column} (0,100);{column}\na.png;1,5;58,2\nb.png;2,5;10,0\n", "utf-16")
        touch(tmp_path, "a.png", "b.png")
        images = read("csv", tmp_path, lower_is_better=lower_is_better)
        labels = read_labels(tmp_path / "labels.csv", lower_is_better=lower_is_better)
        by_name = column.strip().lower() == "dmos"
        assert labels.lower_is_better is (by_name if lower_is_better is None else lower_is_better)
        assert images.paths == labels.paths and labels.mos.tolist() == [58.2, 10]
        np.testing.assert_array_equal(images.mos, -labels.mos if labels.lower_is_better else labels.mos)
        assert images.scale == f"{'-' if labels.lower_is_better else ''}{labels.mos_column}"

    def test_unquoted_decimal_commas_are_refused_as_fit_refuses_them(self, tmp_path: Path):
        touch(tmp_path, "a.png", "b.png", "c.png")
        write(tmp_path / "labels.csv", "image,mos\na.png,58,2\nb.png,58\nc.png,3,5\n")
        for refused in (lambda: read("csv", tmp_path), lambda: read_labels(tmp_path / "labels.csv")):
            with pytest.raises(LabelsError) as caught:
                refused()
            assert [problem.split(":")[0] for problem in caught.value.problems] == ["line 2", "line 4"]
            assert all("3 cells under 2 columns" in problem for problem in caught.value.problems)
        write(tmp_path / "labels.csv", 'image,mos,\na.png,"58,2",\nb.png,58,,\n')
        assert read("csv", tmp_path).mos.tolist() == [58.2, 58]

    def test_the_same_line_twice_is_one_image_but_two_opinions_are_refused(self, tmp_path: Path):
        touch(tmp_path, "a.png", "b.png")
        write(tmp_path / "labels.csv", "image,mos\na.png,1\nb.png,2\na.png,1\n")
        assert len(read("csv", tmp_path)) == 2
        write(tmp_path / "labels.csv", "image,mos\na.png,1\nb.png,2\na.png,3\n")
        with pytest.raises(LabelsError, match=r"line 4: a.png has score 3, but 1 further up"):
            read("csv", tmp_path)

    def test_a_row_without_a_content_stands_for_itself(self, tmp_path: Path):
        touch(tmp_path, *(f"{name}.png" for name in "abcdef"))
        rows = ["a,1,one", "b,2,one", "c,3,", "d,4,two", "e,5,", "f,6,two"]
        write(tmp_path / "labels.csv", "image,mos,ref\n" + "".join(f"{row.replace(',', '.png,', 1)}\n" for row in rows))
        groups = read("csv", tmp_path).groups
        assert groups is not None and groups[0] == groups[1] == "one" and groups[3] == groups[5] == "two"
        assert len(set(groups)) == 4
        write(tmp_path / "labels.csv", "image,mos,ref\na.png,1,\nb.png,2,\n")
        assert read("csv", tmp_path).groups is None

    def test_a_split_that_leaves_rows_out_is_said_not_to_be_used(self, tmp_path: Path):
        touch(tmp_path, "a.png", "b.png", "c.png")
        write(tmp_path / "labels.csv", "image,mos,split\na.png,1,train\nb.png,2,test\nc.png,3,\n")
        found = read("csv", tmp_path)
        assert found.split is None and any("1 of 3 rows name no part" in note for note in found.notes)

    @pytest.mark.parametrize("score", ["good", "", "nan", "inf"])
    def test_scores_that_are_none(self, tmp_path: Path, score: str):
        touch(tmp_path, "a.png")
        write(tmp_path / "labels.csv", f"image,mos\na.png,{score}\n")
        with pytest.raises(LabelsError, match="line 2"):
            read("csv", tmp_path)

    def test_columns_are_listed_where_none_fits(self, tmp_path: Path):
        write(tmp_path / "labels.csv", "a,b\n1,2\n")
        with pytest.raises(LabelsError, match=r"hold the images.*; its columns are 'a', 'b'$"):
            read("csv", tmp_path)
        write(tmp_path / "labels.csv", "image,b\n1,2\n")
        with pytest.raises(LabelsError, match=r"hold the scores.*; its columns are 'image', 'b'$"):
            read("csv", tmp_path)

    def test_no_images_no_table_no_folder(self, tmp_path: Path):
        with pytest.raises(UsageError, match=r"no labels.csv .* \(none\)"):
            read("csv", tmp_path)
        write(tmp_path / "labels.csv", "image,mos\na.png,1\n")
        with pytest.raises(UsageError, match="none of the 1 images"):
            read("csv", tmp_path)
        with pytest.raises(UsageError, match="not a folder"):
            read("csv", tmp_path / "nowhere")

    def test_an_empty_table(self, tmp_path: Path):
        write(tmp_path / "labels.csv", "")
        with pytest.raises(LabelsError, match="is empty"):
            read("csv", tmp_path)
        write(tmp_path / "labels.csv", "image,mos\n")
        with pytest.raises(LabelsError, match="no labels"):
            read("csv", tmp_path)


def test_every_entry_says_where_to_get_it():
    for entry in REGISTRY.values():
        if entry.name != "csv":
            assert entry.url.startswith("http") and entry.license and entry.citation and entry.size and entry.images


@pytest.mark.parametrize(
    ("typed", "name"), [("KonIQ10k", "koniq-10k"), ("kadid_10k", "kadid-10k"), ("TID2013", "tid2013"), ("live", "live")]
)
def test_other_spellings(typed: str, name: str):
    assert find_dataset(typed).name == name


def test_an_unknown_name_lists_those_known():
    with pytest.raises(UsageError, match=r"there is no data set 'ava'\. There are: clive"):
        find_dataset("ava")


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "csv"])
def test_an_empty_folder_says_what_was_looked_for(name: str, tmp_path: Path):
    with pytest.raises(UsageError, match="was not found"):
        read(name, tmp_path)


def test_take_keeps_everything_in_step():
    images = LabeledImages(
        "x", tuple(Path(f"{i}.png") for i in range(4)), np.arange(4.0), groups=np.array(list("aabb")), missing=("m",)
    )
    few = images.take([3, 0])
    assert names(few) == ["3.png", "0.png"] and list(few.mos) == [3, 0]
    assert few.groups is not None and list(few.groups) == ["b", "a"] and few.missing == ("m",)


def test_parts_of_different_length_are_refused():
    with pytest.raises(UsageError, match="2 paths but mos"):
        LabeledImages("x", (Path("a"), Path("b")), np.zeros(3))
