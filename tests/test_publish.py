"""Model cards, and pushing a model directory to the Hub: the real client against a server on loopback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, constants

from grepq_iqa.errors import WeightsError
from grepq_iqa.weights import resolve
from grepq_iqa.weights.model_card import LIMITS, model_card, write_card
from grepq_iqa.weights.publish import push_to_hub

CONFIG = {
    "format": 1,
    "family": "grepq",
    "name": "compact",
    "low_level": {"architecture": "resnet18", "patch": 96, "stride": 48, "evaluation": "dense"},
    "high_level": {"architecture": "timm", "model": "tf_efficientnet_lite0"},
    "max_side": 640,
    "provenance": {
        "license": "MIT",
        "base_model": ["timm/tf_efficientnet_lite0.in1k", "sentence-transformers/all-MiniLM-L6-v2"],
        "data": ["photographs: of friends", {"name": "KonIQ | 10k", "id": "owner/koniq", "license": "CC0", "count": 9}],
        "recipe": "compact.toml",
        "code_version": "0.1.0",
        "scores": [
            {"dataset": "dev", "metric": "srcc", "value": 0.7123, "split": "test"},
            {"dataset": "dev", "metric": "plcc", "value": 0.65, "labels": 50},
        ],
    },
}
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "low_level.safetensors": b"low" * 1000,
    "high_level.safetensors": b"high" * 1000,
}


def matter(card: str) -> dict:
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


@pytest.fixture
def hub(empty_hub, monkeypatch):
    # Xet is a protocol of its own, which the Hub offers beside LFS; the client chooses LFS without it.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return empty_hub


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    (path / "notes.txt").write_text("not part of the model")
    return path


# --- model card ----------------------------------------------------------------------------------------------------


def test_card_front_matter():
    data = matter(model_card(CONFIG, repo_id="owner/name"))
    assert data["library_name"] == "grepq-iqa"
    assert data["license"] == "mit"
    assert data["pipeline_tag"] == "image-classification"
    assert data["base_model"] == CONFIG["provenance"]["base_model"]
    assert data["datasets"] == ["owner/koniq"]
    assert data["metrics"] == ["pearson", "spearman"]
    (index,) = data["model-index"]
    assert index["name"] == "name"
    first, second = index["results"]
    assert first["dataset"] == {"name": "dev", "type": "dev", "split": "test"}
    assert first["metrics"][0]["type"] == "spearman"
    assert first["metrics"][0]["value"] == 0.7123
    assert "zero-shot" in first["metrics"][0]["name"]
    assert "50 labels" in second["metrics"][0]["name"]


def test_card_is_understood_by_the_client():
    card = ModelCard(model_card(CONFIG, repo_id="owner/name"))
    assert {(result.dataset_name, result.metric_type, result.metric_value) for result in card.data.eval_results} == {
        ("dev", "spearman", 0.7123),
        ("dev", "pearson", 0.65),
    }


def test_card_tells_the_parts_of_a_zero_shot_score_apart():
    scores = [
        {"dataset": "dev", "metric": "srcc", "split": f"zero-shot, {part}", "value": value}
        for part, value in (("Q", 0.6), ("Q_L", 0.4))
    ]
    card = model_card(CONFIG | {"provenance": {"scores": scores}})
    assert "| zero-shot, Q | 0.600 |" in card and "| zero-shot, Q_L | 0.400 |" in card


@pytest.mark.parametrize(
    "high",
    [
        {"architecture": "timm", "model": "net", "damage": {"start": 2, "reads": ["distance"]}},
        {"architecture": "timm", "model": "net", "distortion_head": {"start": 2, "outputs": ["distance"]}},
    ],
    ids=["format 1", "format 2"],
)
def test_card_tells_of_a_distortion_head(high):
    card = model_card(CONFIG | {"high_level": high})
    assert "timm net, and a copy of its later stages that sees distortions" in card
    assert "sees distortions" not in model_card(CONFIG)


def test_card_text():
    card = model_card(CONFIG, repo_id="owner/name")
    assert "## Where not to trust this model" in card
    assert all(limit in card for limit in LIMITS)
    assert 'GRepQ.from_pretrained("owner/name")' in card
    assert "| dev | Spearman's rank correlation (SRCC) | zero-shot | 0.712 |" in card
    assert "KonIQ \\| 10k, 9 images, CC0" in card
    assert "photographs: of friends" in card
    assert "shrunk to 640 pixels" in card
    assert "predict" not in card.split("## What it is")[0]
    assert 'model.predict("photo.jpg")' in model_card(CONFIG, fitted=True)


@pytest.mark.parametrize("provenance", [None, {}, {"data": "one", "scores": "good", "base_model": None}])
def test_card_of_a_model_that_says_little(provenance):
    card = model_card({"name": "mine", "provenance": provenance})
    data = matter(card)
    assert data["license"] == "mit"
    assert "model-index" not in data
    assert "Nothing has been measured" in card
    ModelCard(card)


PROVENANCE = {
    "license": "MIT",
    "low_level": {
        "recipe": "mine.toml",
        "data": [{"role": "low_level", "name": "walks", "license": "CC0", "count": 7, "sha256": "a" * 64}],
        "base_model": None,
        "code_version": "0.2.0",
    },
    "high_level": {
        "recipe": "paper",
        "data": [
            {"role": "pristine", "name": "clean", "license": "", "count": 3, "sha256": "b" * 64},
            {"role": "unlabeled", "name": "walks", "license": "CC0", "count": 7, "sha256": "a" * 64},
        ],
        "base_model": {"name": "Net, on ImageNet", "package": "net 1.2 (PyPI)", "file": "n.pth", "sha256": "c" * 64},
        "code_version": "0.2.1",
    },
    "export": {
        "recipe": "mine.toml",
        "data": [{"role": "pristine", "name": "clean", "license": "", "count": 3, "sha256": "b" * 64}],
        "code_version": "0.2.1",
    },
    "human_scores": {"in_training": False, "in_choosing_the_recipe": "compared on 9 photographs | once"},
}


def test_card_tells_where_everything_came_from():
    card = model_card(CONFIG | {"provenance": PROVENANCE})
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in card.split("## How it was made")[1].splitlines()}
    assert rows["Recipe"] == "| Recipe | mine.toml, paper |"
    assert rows["Code version"] == "| Code version | 0.2.0, 0.2.1 |"
    start = f"Net, on ImageNet (net 1.2 (PyPI), n.pth, SHA-256 {'c' * 16}...)"
    assert rows["Starts from"] == f"| Starts from | {start} |"
    assert rows["Data, low level"] == "| Data, low level | walks, 7 images, CC0 |"
    assert rows["Data, pristine"] == "| Data, pristine | clean, 3 images |" and card.count("| Data, pristine |") == 1
    assert rows["Human scores in the training of the encoders"].endswith("| none |")
    assert rows["Human scores in choosing the recipe"].endswith("| compared on 9 photographs \\| once |")
    assert "base_model" not in matter(card) and "datasets" not in matter(card)  # the Hub knows neither


def test_card_links_a_base_model_of_the_hub():
    base = PROVENANCE["high_level"]["base_model"] | {"hub": "owner/net"}
    high = PROVENANCE["high_level"] | {"base_model": base}
    assert matter(model_card(CONFIG | {"provenance": PROVENANCE | {"high_level": high}}))["base_model"] == ["owner/net"]


# --- pushing -------------------------------------------------------------------------------------------------------


def test_push_then_resolve(hub, folder):
    address = push_to_hub(folder, "owner/new", token="hf_good")
    assert address.startswith(f"{hub.url}/owner/new/commit/")
    commit, tree = hub.repos["owner/new"].files("main")
    assert commit in address
    assert set(tree) == {*FILES, "README.md"}
    assert matter(tree["README.md"].decode())["model-index"][0]["name"] == "new"
    assert not hub.repos["owner/new"].private
    model = resolve("owner/new")
    assert {name: path.read_bytes() for name, path in model.files.items()} == FILES


def test_push_again_to_a_branch(hub, folder):
    push_to_hub(folder, "owner/new", token="hf_good")
    (folder / "config.json").write_text('{"name": "second"}')
    (folder / "calibration.safetensors").write_bytes(b"c")
    for _ in range(2):
        push_to_hub(folder, "owner/new", token="hf_good", revision="v2", commit_message="fitted")
    repo = hub.repos["owner/new"]
    assert "calibration.safetensors" not in repo.files("main")[1]
    tree = repo.files("v2")[1]
    assert tree["calibration.safetensors"] == b"c"
    assert b".predict(" in tree["README.md"]
    assert repo.files("main")[1]["config.json"] == FILES["config.json"]


def test_what_a_model_lacks_does_not_stay_behind(hub, folder):
    """A fit of the model that was there before would be taken for this one's; what is not ours stays."""
    (folder / "calibration.safetensors").write_bytes(b"c")
    push_to_hub(folder, "owner/new", token="hf_good")
    hub.add("owner/new", hub.repos["owner/new"].files("main")[1] | {"notes.txt": b"n"})
    (folder / "calibration.safetensors").unlink()
    push_to_hub(folder, "owner/new", token="hf_good")
    assert set(hub.repos["owner/new"].files("main")[1]) == {*FILES, "README.md", "notes.txt"}


def test_push_private_with_own_card(hub, folder):
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# mine\n")
    push_to_hub(folder, "owner/hidden", token="hf_good", private=True)
    repo = hub.repos["owner/hidden"]
    assert repo.private
    assert b"# mine" in repo.files("main")[1]["README.md"]


def test_push_writes_a_card_that_code_wrote_anew_with_the_name_of_the_repository(hub, folder):
    write_card(folder)
    assert 'from_pretrained("compact")' in (folder / "README.md").read_text()
    push_to_hub(folder, "owner/new", token="hf_good")
    card = hub.repos["owner/new"].files("main")[1]["README.md"].decode()
    assert 'from_pretrained("owner/new")' in card and matter(card)["model-index"][0]["name"] == "new"


def test_push_without_write_access(hub, folder):
    for token in (None, "hf_bad"):
        with pytest.raises(WeightsError) as caught:
            push_to_hub(folder, "owner/new", token=token)
        assert "does not let this token write to owner/new" in str(caught.value)
        assert "HF_TOKEN" in str(caught.value)


def test_push_that_the_server_breaks_off(hub, folder):
    hub.fail("POST /api/models/owner/new/commit", status=500, times=99)
    with pytest.raises(WeightsError, match="owner/new cannot be uploaded: the Hub answered 500") as caught:
        push_to_hub(folder, "owner/new", token="hf_good")
    assert caught.value.hint


def test_push_of_something_that_is_no_model(hub, folder):
    (folder / "high_level.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"high_level\.safetensors missing"):
        push_to_hub(folder, "owner/new", token="hf_good")
    assert hub.requests == []


def test_push_with_bad_arguments(hub, folder):
    with pytest.raises(WeightsError, match="is a commit"):
        push_to_hub(folder, "owner/new", token="hf_good", revision="a" * 40)
    with pytest.raises(WeightsError, match="not a repository name"):
        push_to_hub(folder, "a b/c", token="hf_good")
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="not JSON"):
        push_to_hub(folder, "owner/new", token="hf_good")
    assert hub.requests == []
