"""Ratings in sidecars: what programs read back, and that nothing else in them changes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grepq_iqa.errors import UsageError
from grepq_iqa.report.sidecars import Naming, rate, sidecar_path
from grepq_iqa.report.stars import checked_limits, is_star_scale, stars_of_mos, stars_of_percentile
from grepq_iqa.report.xmp import GREPQ, Rating, XmpError, new_packet, read_rating, with_rating

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
XMP = 'xmlns:xmp="http://ns.adobe.com/xap/1.0/"'

ATTRIBUTE = f"""<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.57'>
<rdf:RDF {RDF}>

 <rdf:Description rdf:about=''
  xmlns:dc='http://purl.org/dc/elements/1.1/' dc:format="a > b &amp; c">
  <dc:subject><rdf:Bag><rdf:li>Stra\u00dfe</rdf:li></rdf:Bag></dc:subject>
 </rdf:Description>

 <rdf:Description rdf:about='' {XMP}
   xmp:Rating = '3'   xmp:Label="red"/>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>"""
ELEMENT = f"""<?xml version="1.0"?>
<!-- mine -->
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}><rdf:Description rdf:about="" xmlns:a="http://ns.adobe.com/xap/1.0/">
<a:Rating>
 4 </a:Rating><a:Label>x</a:Label></rdf:Description></rdf:RDF></x:xmpmeta>"""
NONE = f"<rdf:RDF {RDF}><rdf:Description rdf:about='' xmlns:xmp='urn:other' xmp:Rating='1'/></rdf:RDF>"
EMPTY_RDF = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>\n</rdf:RDF></x:xmpmeta>'
EMPTY_ELEMENT = f"<rdf:RDF {RDF}><rdf:Description {XMP}><xmp:Rating /><xmp:Label/></rdf:Description></rdf:RDF>"
NESTED = f"""<rdf:RDF {RDF}><rdf:Description {XMP} xmp:Rating="2"><xmp:History><rdf:Seq><rdf:li>
<rdf:Description xmp:Rating="5"/></rdf:li></rdf:Seq></xmp:History></rdf:Description></rdf:RDF>"""


@pytest.mark.parametrize(
    ("text", "stars"),
    [(ATTRIBUTE, 3), (ELEMENT, 4), (NONE, None), (EMPTY_RDF, None), (EMPTY_ELEMENT, 0), (NESTED, 2)],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_only_the_rating_changes(text, stars, encoding):
    packet = text.encode(encoding)
    assert read_rating(packet) == Rating(stars, None)
    rated = with_rating(packet, 5)
    assert read_rating(rated) == Rating(5, 5) and not read_rating(rated).by_person
    again = with_rating(rated, -1)
    assert read_rating(again) == Rating(-1, -1) and len(again) == len(rated) + 2 * len(
        "-".encode(encoding[:6] + "-le"[: 3 * (encoding[:6] == "utf-16")])
    )
    # Every line of the old one stands in the new one, in order, but for the ones with a rating or a tag that takes it.
    old, new = text.splitlines(), rated.decode(encoding).splitlines()
    kept = [
        line for line in old if "Rating" not in line and "rdf:Description rdf:about" not in line and "RDF" not in line
    ]
    found = iter(line.lstrip("\ufeff") for line in new)
    assert all(any(line.lstrip("\ufeff") == other for other in found) for line in kept)


def test_an_old_encoding_by_its_declaration():
    body = f'<rdf:RDF {RDF}><rdf:Description {XMP} xmp:Label="\u00fc" xmp:Rating="1"/></rdf:RDF>'
    rated = with_rating(f'<?xml version="1.0" encoding="iso-8859-1"?>{body}'.encode("latin-1"), 4)
    assert read_rating(rated) == Rating(4, 4) and b'Label="\xfc"' in rated


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20), st.integers(-1, 5), st.integers(0, 5))
def test_any_text_around_a_rating_stays(text, stars, before):
    from xml.sax.saxutils import quoteattr

    head = f"<rdf:RDF {RDF}><rdf:Description {XMP} xmp:Label={quoteattr(text)} "
    tail = f"><xmp:Nickname xmp:x={quoteattr(text)}/></rdf:Description></rdf:RDF>"
    packet = (head + f'xmp:Rating="{before}"' + tail).encode()
    rated = with_rating(packet, stars)
    assert read_rating(rated) == Rating(stars, stars)
    mark = f'\n   xmlns:grepq="{GREPQ}"\n   grepq:Rating="{stars}"'.encode()
    assert rated.replace(mark, b"") == (head + f'xmp:Rating="{stars}"' + tail).encode()


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"no xml", "no XML"),
        (b"<a/>", "no rdf:RDF"),
        (f"<rdf:RDF {RDF}/>".encode(), "no place"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "document type"),
        (ELEMENT.replace(" 4 ", "<b/>").encode(), "more than a number"),
        (ELEMENT.replace(" 4 ", "many").encode(), "no number"),
        (ATTRIBUTE.encode()[:300], "no XML"),
        (b'<?xml version="1.0" encoding="martian"?><a/>', "no XML|encoding"),
    ],
)
def test_what_is_not_understood_is_refused(packet, words):
    with pytest.raises(XmpError, match=words):
        with_rating(packet, 3)


def test_a_prefix_that_means_something_else_is_not_used():
    rated = with_rating(NONE.encode(), 2)
    assert b"xmlns:xmp='urn:other' xmp:Rating='1'" in rated and b'xmp_:Rating="2"' in rated


def test_of_two_ratings_the_person_s_counts():
    packet = with_rating(ATTRIBUTE.encode(), 3).replace(
        b"</rdf:RDF>", f"<rdf:Description {XMP} xmp:Rating='1'/></rdf:RDF>".encode()
    )
    assert read_rating(packet) == Rating(1, 3) and read_rating(packet).by_person
    assert Rating(0, None).by_person is False and Rating(0, 4).by_person is True and Rating(-1).by_person is True


def test_stars():
    assert [stars_of_percentile(p) for p in (0, 19.9, 20, 40, 60, 79.9, 80, 100)] == [1, 1, 2, 3, 4, 4, 5, 5]
    assert stars_of_percentile(4, reject_below=5) == -1 and stars_of_percentile(5, reject_below=5) == 1
    assert [stars_of_mos(m) for m in (-1, 1, 1.49, 1.5, 2.5, 4.49, 4.5, 9)] == [1, 1, 1, 2, 3, 4, 5, 5]
    assert is_star_scale(1, 5) and is_star_scale(2.2, 4.4) and not is_star_scale(0, 5) and not is_star_scale(1, 100)
    assert not is_star_scale(1, 2) and not is_star_scale(1, 5, lower_is_better=True)
    for limits in ((20, 40, 60), (20, 20, 60, 80), (20, 40, 60, 101), (-1, 2, 3, 4), (80, 60, 40, 20)):
        with pytest.raises(UsageError, match="4 rising"):
            checked_limits(limits)


@pytest.fixture
def picture(tmp_path, photos) -> Path:
    path = tmp_path / "Stra\u00dfe 1.JPG"
    with Image.open(photos[0]) as image:
        image.crop((0, 0, 120, 100)).save(path, "JPEG")
    return path


@pytest.mark.parametrize("naming", Naming)
def test_a_person_s_rating_stays_wherever_it_is(picture, naming):
    other = Naming.adobe if naming is Naming.darktable else Naming.darktable
    sidecar = sidecar_path(picture, naming)
    assert sidecar.name == ("Stra\u00dfe 1.JPG.xmp" if naming is Naming.darktable else "Stra\u00dfe 1.xmp")
    assert rate(picture, 4, naming, dry_run=True).action == "written" and not sidecar.exists()
    assert rate(picture, 4, naming).action == "written"
    assert rate(picture, 4, naming).action == "unchanged"
    assert rate(picture, 2, naming).action == "written"  # ours may be renewed
    sidecar.write_bytes(sidecar.read_bytes().replace(b'xmp:Rating="2"', b'xmp:Rating="5"', 1))  # a person's click
    assert rate(picture, 1, naming) == rate(picture, 1, naming) and rate(picture, 1, naming).stars == 5
    assert read_rating(sidecar.read_bytes()).stars == 5
    assert rate(picture, 1, naming, replace=True).action == "written"
    assert read_rating(sidecar.read_bytes()) == Rating(1, 1)
    sidecar.unlink()
    sidecar_path(picture, other).write_text(ELEMENT)
    assert rate(picture, 1, naming).action == "kept" and rate(picture, 1, naming).stars == 4 and not sidecar.exists()
    sidecar_path(picture, other).unlink()
    with Image.open(picture) as image:
        exif = image.getexif()
        exif[0x4746] = 3  # as Windows and some cameras write it
        image.save(picture, "JPEG", exif=exif)
    assert rate(picture, 1, naming).stars == 3 and not sidecar.exists()
    with Image.open(picture) as image:
        image.save(picture, "JPEG", xmp=ATTRIBUTE.encode())
    assert rate(picture, 1, naming).action == "kept"


def test_files_around_a_sidecar(picture, tmp_path):
    sidecar = tmp_path / (picture.name + ".XMP")
    sidecar.write_text(NESTED.replace('xmp:Rating="2"', 'xmp:Rating="0"'))
    sidecar.chmod(0o640)
    assert rate(picture, 3, Naming.darktable).sidecar == sidecar  # of other case, and unrated
    assert sidecar.stat().st_mode & 0o777 == 0o640 and sorted(p.name for p in tmp_path.iterdir()) == [
        picture.name,
        sidecar.name,
    ]
    sidecar.unlink()
    real = tmp_path / "elsewhere" / "real.xmp"
    real.parent.mkdir()
    real.write_bytes(b" \n")  # blank: nothing to lose
    link = tmp_path / (picture.name + ".xmp")
    link.symlink_to(real)
    rate(picture, 3, Naming.darktable)
    assert link.is_symlink() and read_rating(real.read_bytes()) == Rating(3, 3)
    real.write_bytes(b"<broken")
    with pytest.raises(XmpError):
        rate(picture, 4, Naming.darktable)
    assert real.read_bytes() == b"<broken"


@pytest.fixture
def shoot(tmp_path, photos, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    base = tmp_path / "shoot \u00fc"
    (base / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.jpg", "b.jpg", "sub/a.jpg")):
        with Image.open(photos[i]) as image:
            image.crop((0, 0, 200, 150)).save(base / name)
    (base / "b.cr2").write_bytes(b"raw")
    (base / "c.jpg").touch()
    return base


@pytest.mark.needs("exiftool")
@pytest.mark.parametrize("naming", Naming)
def test_exiftool_reads_the_stars_back(grepq, shoot, naming):
    (shoot / "sub" / "a.jpg").unlink()
    theirs = sidecar_path(shoot / "b.jpg", naming)
    theirs.write_text(ELEMENT)
    subprocess.run(
        ["exiftool", "-q", "-overwrite_original", "-XMP:Subject=holiday", "-XMP:Rating=", theirs], check=True
    )
    status, out, error = grepq("rate", shoot, "--stars", "--sidecars", naming.value, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1 and "2 written" in error and "1 failed" in error
    assert [row["error"] is None for row in rows] == [True, True, False]
    for row in rows:
        if row["error"]:
            continue
        command = ["exiftool", "-j", "-XMP:all", row["sidecar"]]
        [found] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert found["Rating"] == row["stars"] and 1 <= row["stars"] <= 5
    command = ["exiftool", "-j", "-XMP:all", "-validate", "-warning", "-a", theirs]
    [found] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found["Subject"] == "holiday" and found["Label"] == "x" and "Warning" not in found
    # A person changes their mind in another program; then it stays.
    subprocess.run(["exiftool", "-q", "-overwrite_original", "-XMP:Rating=-1", theirs], check=True)
    status, out, _ = grepq("rate", shoot, "--stars", "--sidecars", naming.value, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["action"] for row in rows] == ["unchanged", "kept", None] and rows[1]["stars"] == -1


def test_rate_shows_first_and_shares_no_sidecar(grepq, shoot, tmp_path):
    before = sorted(path.name for path in shoot.rglob("*"))
    status, out, error = grepq("rate", shoot)
    assert status == 1 and "nothing was written" in error and sorted(p.name for p in shoot.rglob("*")) == before
    (shoot / "a.png").write_bytes((shoot / "a.jpg").read_bytes())
    status, out, error = grepq("rate", shoot, "--stars", "--sidecars", "adobe", "--format", "jsonl")
    rows = {Path(row["path"]).name: row for row in map(json.loads, out.splitlines()) if "sub" not in row["path"]}
    assert "shares its sidecar with a.png" in rows["a.jpg"]["error"] and not (shoot / "a.xmp").exists()
    assert (shoot / "b.xmp").exists()  # one shot with its raw file
    assert grepq("rate", shoot, "--limits", 50, 40, 60, 80)[0] == 2


@pytest.mark.parametrize("labels", [[1.0, 3.0, 5.0, 4.0], [1.0, 30.0, 90.0, 40.0]])
def test_a_fit_on_stars_gives_its_own_stars(compact, photos, labels):
    from grepq_iqa.batch import Result
    from grepq_iqa.calibration.regressor import MOSRegressor
    from grepq_iqa.cli.rate import _row

    small = [Image.open(photo).crop((0, 0, 120, 100)) for photo in photos]
    scores, rows = compact.score_and_features(small)
    regressor = MOSRegressor(feature_mean=compact.feature_mean, feature_scale=compact.feature_scale).fit(rows, labels)
    compact.regressor_, compact.prior_ = regressor, "none"
    try:
        for features, score in zip(rows, scores, strict=True):
            mos = float(compact.predict(features=features[None]).mos[0])
            standing = 100 * np.mean(np.array(labels) < mos)
            row = _row(compact, Result("a", score, features), (20, 40, 60, 80), 0, False)
            assert row["percentile"] == pytest.approx(standing)
            assert row["stars"] == (stars_of_mos(mos) if max(labels) == 5 else stars_of_percentile(standing))
    finally:
        del compact.regressor_, compact.prior_


def test_a_write_protected_sidecar_costs_the_others_nothing(grepq, shoot):
    if os.geteuid() == 0:
        (shoot / "a.jpg.xmp").mkdir()  # what root cannot write, either
    else:
        (shoot / "a.jpg.xmp").write_bytes(new_packet(1))
        (shoot / "a.jpg.xmp").chmod(0o444)
    status, out, error = grepq("rate", shoot, "--stars", "--format", "jsonl", "--limits", 1, 2, 3, 4)
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1 and "Traceback" not in error and "a.jpg.xmp" in rows[0]["error"]
    assert (shoot / "b.jpg.xmp").exists() and (shoot / "sub" / "a.jpg.xmp").exists()
