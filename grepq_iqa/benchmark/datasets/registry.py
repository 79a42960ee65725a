"""Which data sets there are, where a person gets them, and who reads them. None is downloaded by this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grepq_iqa.benchmark.datasets import generated, generic, in_the_wild, synthetic
from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages
from grepq_iqa.errors import UsageError
from grepq_iqa.text import unknown_name


@dataclass(frozen=True)
class DatasetEntry:
    """One data set.

    Attributes:
        name: what to type.
        title: what people call it.
        kind: "in the wild", "synthetic", "generated" or "your own".
        images: how many scored images a complete copy has.
        size: on disk, roughly.
        url: where its authors hand it out.
        license: what they say of its use; read it there before you rely on it.
        citation: the paper.
        layout: the files that are looked for.
        reader: from its folder to `LabeledImages`.
        split: the authors' own exists and is read.
    """

    name: str
    title: str
    kind: str
    images: int | None
    size: str
    url: str
    license: str
    citation: str
    layout: str
    reader: Callable[..., LabeledImages]
    split: bool = False


_ENTRIES = (
    DatasetEntry(
        name="clive",
        title="CLIVE (LIVE In the Wild)",
        kind="in the wild",
        images=1162,
        size="0.3 GB",
        url="https://live.ece.utexas.edu/research/ChallengeDB/",
        license="free with attribution (University of Texas notice); password by request form",
        citation="Ghadiyaram and Bovik, Massive online crowdsourced study of subjective and objective picture quality, "
        "IEEE TIP 25(1), 2016",
        layout="Data/AllImages_release.mat, Data/AllMOS_release.mat, Images/",
        reader=in_the_wild.read_clive,
    ),
    DatasetEntry(
        name="koniq-10k",
        title="KonIQ-10k",
        kind="in the wild",
        images=10073,
        size="6 GB with both sizes",
        url="https://database.mmsp-kn.de/koniq-10k-database.html",
        license="pictures under Creative Commons licenses of YFCC100M; see the site",
        citation="Hosu, Lin, Sziranyi, Saupe, KonIQ-10k: an ecologically valid database for deep learning of blind "
        "image quality assessment, IEEE TIP 29, 2020",
        layout="koniq10k_scores_and_distributions.csv, 1024x768/; for the split koniq10k_distributions_sets.csv "
        "(github.com/subpic/koniq)",
        reader=in_the_wild.read_koniq,
        split=True,
    ),
    DatasetEntry(
        name="flive",
        title="FLIVE (PaQ-2-PiQ)",
        kind="in the wild",
        images=39808,
        size="5 GB",
        url="https://github.com/niu-haoran/FLIVE_Database",
        license="pictures of AVA, VOC, EMOTIC and a blur data set, each under its own terms; see the repository",
        citation="Ying, Niu, Gupta, Mahajan, Ghadiyaram, Bovik, From patches to pictures (PaQ-2-PiQ): mapping the "
        "perceptual space of picture quality, CVPR 2020",
        layout="labels_image.csv, database/; for the split labels<=640_padded.csv and labels>640.csv",
        reader=in_the_wild.read_flive,
        split=True,
    ),
    DatasetEntry(
        name="spaq",
        title="SPAQ",
        kind="in the wild",
        images=11125,
        size="35 GB; photographs of 12 megapixels and more, for which --max-side is meant",
        url="https://github.com/h4nwei/SPAQ",
        license="research use; see the repository",
        citation="Fang, Zhu, Zeng, Ma, Wang, Perceptual quality assessment of smartphone photography, CVPR 2020",
        layout="Annotations/MOS and Image attribute scores.xlsx, TestImage/",
        reader=in_the_wild.read_spaq,
    ),
    DatasetEntry(
        name="biq2021",
        title="BIQ2021",
        kind="in the wild",
        images=12000,
        size="1 GB",
        url="https://github.com/nisarahmedrana/BIQ2021",
        license="public repository without a license file",
        citation="Ahmed and Asif, BIQ2021: a large-scale blind image quality assessment database, "
        "J. Electronic Imaging 31(5), 2022",
        layout="Train (Images and MOS).csv, Test (Images and MOS).csv (or Train.csv, Test.csv), Images/",
        reader=in_the_wild.read_biq2021,
        split=True,
    ),
    DatasetEntry(
        name="live",
        title="LIVE, release 2",
        kind="synthetic",
        images=779,
        size="0.7 GB",
        url="https://live.ece.utexas.edu/research/quality/subjective.htm",
        license="free with attribution (University of Texas notice); password by request form",
        citation="Sheikh, Sabir, Bovik, A statistical evaluation of recent full reference image quality assessment "
        "algorithms, IEEE TIP 15(11), 2006",
        layout="dmos_realigned.mat (or dmos.mat), refnames_all.mat, jp2k/ jpeg/ wn/ gblur/ fastfading/",
        reader=synthetic.read_live,
    ),
    DatasetEntry(
        name="csiq",
        title="CSIQ",
        kind="synthetic",
        images=866,
        size="0.4 GB",
        url="http://vision.eng.shizuoka.ac.jp/mod/page/view.php?id=23",
        license="research use; see the site",
        citation="Larson and Chandler, Most apparent distortion: full-reference image quality assessment and the role "
        "of strategy, J. Electronic Imaging 19(1), 2010",
        layout="csiq.DMOS.xlsx, dst_imgs/awgn/ and so on (or dst_imgs_all/)",
        reader=synthetic.read_csiq,
    ),
    DatasetEntry(
        name="tid2013",
        title="TID2013",
        kind="synthetic",
        images=3000,
        size="1.2 GB",
        url="https://www.ponomarenko.info/tid2013.htm",
        license="free for research with citation; see the site",
        citation="Ponomarenko et al., Image database TID2013: peculiarities, results and perspectives, "
        "Signal Processing: Image Communication 30, 2015",
        layout="mos_with_names.txt, distorted_images/",
        reader=synthetic.read_tid2013,
    ),
    DatasetEntry(
        name="kadid-10k",
        title="KADID-10k",
        kind="synthetic",
        images=10125,
        size="3 GB",
        url="https://database.mmsp-kn.de/kadid-10k-database.html",
        license="references from Pixabay; see the site",
        citation="Lin, Hosu, Saupe, KADID-10k: a large-scale artificially distorted IQA database, QoMEX 2019",
        layout="dmos.csv, images/",
        reader=synthetic.read_kadid,
    ),
    DatasetEntry(
        name="pipal",
        title="PIPAL, training part",
        kind="synthetic",
        images=23200,
        size="6 GB",
        url="https://www.jasongt.com/projectpages/pipal.html",
        license="research use; see the site",
        citation="Gu, Cai, Chen, Ye, Ren, Dong, PIPAL: a large-scale image quality assessment dataset for perceptual "
        "image restoration, ECCV 2020",
        layout="Train_Label/*.txt, Train_Dist/ (or Distortion_1/ to Distortion_4/)",
        reader=synthetic.read_pipal,
    ),
    DatasetEntry(
        name="agiqa-1k",
        title="AGIQA-1K",
        kind="generated",
        images=1080,
        size="0.1 GB",
        url="https://github.com/lcysyzxdxc/AGIQA-1k-Database",
        license="MIT",
        citation="Zhang, Li, Sun, Liu, Min, Zhai, A perceptual quality assessment exploration for AIGC images, "
        "ICME Workshops 2023",
        layout="AIGC_MOS_Zscore.xlsx (or AIGC_all.csv), file/",
        reader=generated.read_agiqa1k,
    ),
    DatasetEntry(
        name="agiqa-3k",
        title="AGIQA-3K",
        kind="generated",
        images=2982,
        size="0.3 GB",
        url="https://github.com/lcysyzxdxc/AGIQA-3k-Database",
        license="MIT",
        citation="Li, Zhang, Wu, Sun, Min, Liu, Zhai, Lin, AGIQA-3K: an open database for AI-generated image quality "
        "assessment, IEEE TCSVT 34(8), 2024",
        layout="data.csv, images/ (or beside it)",
        reader=generated.read_agiqa3k,
    ),
    DatasetEntry(
        name="csv",
        title="a table of your own",
        kind="your own",
        images=None,
        size="",
        url="",
        license="",
        citation="",
        layout="labels.csv with columns image and mos (and group, split), images beside it or in images/",
        reader=generic.read_labeled_folder,
        split=True,
    ),
)

REGISTRY: dict[str, DatasetEntry] = {entry.name: entry for entry in _ENTRIES}
# What else people type.
_ALIASES = {
    "koniq": "koniq-10k",
    "koniq10k": "koniq-10k",
    "kadid": "kadid-10k",
    "kadid10k": "kadid-10k",
    "paq2piq": "flive",
    "livec": "clive",
    "tid": "tid2013",
    "biq": "biq2021",
    "agiqa1k": "agiqa-1k",
    "agiqa3k": "agiqa-3k",
}


def find_dataset(name: str) -> DatasetEntry:
    """The entry of a data set, case and a few other spellings forgiven.

    Raises:
        UsageError: it is not known; the message lists those that are.
    """
    key = name.strip().lower().replace("_", "-")
    key = _ALIASES.get(key.replace("-", ""), key)
    if key not in REGISTRY:
        raise UsageError(unknown_name("data set", name, REGISTRY))
    return REGISTRY[key]


def read(name: str, root: str | Path, **options: Any) -> LabeledImages:
    """Read a data set from the folder that its archives were unpacked to.

    Args:
        name: see `REGISTRY`.
        root: that folder.
        options: for the reader; only ``csv`` has any.

    Raises:
        UsageError: unknown name, or files of the layout are not there; the message lists them.
        LabelsError: the label file cannot be used; the message lists the lines.
    """
    return find_dataset(name).reader(root, **options)
