"""Published data sets on disk: each layout rebuilt in small, with known labels, groups and parts, and broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from xai_panel.training.datasets import LAYOUTS, UNUSED, DatasetError, Item, detect, read
from xai_panel.training.datasets.chexpert import FINDINGS as CHEXPERT_FINDINGS
from xai_panel.training.splits import part_of

Known = tuple[str, str, str, str]  # label, group, part, generator


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def text(folder: Path, name: str, *lines: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def replaced(path: Path, old: str, new: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert old in content
    path.write_text(content.replace(old, new), encoding="utf-8")


def known(items: list[Item], folder: Path) -> dict[str, Known]:
    return {str(i.path.relative_to(folder)): (i.label, i.group, i.part, i.generator) for i in items}


def fake_or_real(folder: Path) -> dict[str, Known]:
    answers: dict[str, Known] = {}
    for published, part in (("training", "train"), ("validation", "validation"), ("testing", "held-out")):
        for name, label in (("real", "bona fide"), ("fake", "spoof")):
            path = f"for-norm/for-norm/{published}/{name}/file7.wav_16k.wav_norm.wav_mono.wav_silence.wav"
            files(folder, path)
            generator = "text-to-speech (not named)" if label == "spoof" else ""
            answers[path] = (label, f"{published}/{name}/file7", part, generator)
    files(folder, "for-norm/for-norm/training/real/.DS_Store", "for-norm/for-norm/training/real/._file7.wav")
    return answers


def asvspoof2019(folder: Path) -> dict[str, Known]:
    protocols = "LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm"
    text(folder, f"{protocols}.train.trn.txt", "LA_0079 LA_T_1138215 - - bonafide", "LA_0079 LA_T_1271820 - A01 spoof")
    text(folder, f"{protocols}.dev.trl.txt", "LA_0069 LA_D_1047731 - - bonafide")
    text(folder, f"{protocols}.eval.trl.txt", "LA_0039 LA_E_2834763 - A11 spoof")
    answers: dict[str, Known] = {
        "LA/ASVspoof2019_LA_train/flac/LA_T_1138215.flac": ("bona fide", "LA_0079", "train", ""),
        "LA/ASVspoof2019_LA_train/flac/LA_T_1271820.flac": ("spoof", "LA_0079", "train", "A01"),
        "LA/ASVspoof2019_LA_dev/flac/LA_D_1047731.flac": ("bona fide", "LA_0069", "validation", ""),
        "LA/ASVspoof2019_LA_eval/flac/LA_E_2834763.flac": ("spoof", "LA_0039", "held-out", "A11"),
    }
    files(folder, *answers)
    return answers


def asvspoof2021(folder: Path) -> dict[str, Known]:
    text(
        folder,
        "keys/LA/CM/trial_metadata.txt",
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval",
        "LA_0020 LA_E_7294490 g722 loc_tx bonafide bonafide notrim progress",
    )
    answers: dict[str, Known] = {
        "ASVspoof2021_LA_eval/flac/LA_E_9332881.flac": ("spoof", "LA_0009", "held-out", "A07"),
        "ASVspoof2021_LA_eval/flac/LA_E_7294490.flac": ("bona fide", "LA_0020", "held-out", ""),
    }
    files(folder, *answers, "ASVspoof2021_LA_eval/ASVspoof2021.LA.cm.eval.trl.txt")
    return answers


def wavefake(folder: Path) -> dict[str, Known]:
    first, second = part_of("LJ001-0001"), part_of("BASIC5000_0001")
    answers: dict[str, Known] = {
        "generated_audio/ljspeech_melgan/LJ001-0001_gen.wav": ("spoof", "LJ001-0001", first, "melgan"),
        "generated_audio/ljspeech_hifiGAN/LJ001-0001_gen.wav": ("spoof", "LJ001-0001", first, "hifiGAN"),
        "LJSpeech-1.1/wavs/LJ001-0001.wav": ("bona fide", "LJ001-0001", first, ""),
        "generated_audio/jsut_parallel_wavegan/BASIC5000_0001_gen.wav": (
            "spoof",
            "BASIC5000_0001",
            second,
            "parallel_wavegan",
        ),
    }
    files(folder, *answers)
    return answers


def in_the_wild(folder: Path) -> dict[str, Known]:
    lines = ["file,speaker,label", "0.wav,Alec Guinness,spoof", "1.wav,Alec Guinness,bona-fide"]
    text(folder, "release_in_the_wild/meta.csv", *lines)
    part = part_of("Alec Guinness")
    answers: dict[str, Known] = {
        "release_in_the_wild/0.wav": ("spoof", "Alec Guinness", part, "not named"),
        "release_in_the_wild/1.wav": ("bona fide", "Alec Guinness", part, ""),
    }
    files(folder, *answers)
    return answers


def chexpert_row(path: str, healthy: str = "", **values: str) -> str:
    columns = [values.get(name.replace(" ", "_"), "") for name in CHEXPERT_FINDINGS]
    return ",".join([path, "Female", "68", "Frontal", "AP", healthy, *columns])


def chexpert(folder: Path) -> dict[str, Known]:
    header = ",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", *CHEXPERT_FINDINGS])
    name = "CheXpert-v1.0-small"
    answers: dict[str, Known] = {
        f"{name}/train/patient00001/study1/view1_frontal.jpg": ("no finding", "patient00001", "train", ""),
        f"{name}/train/patient00002/study2/view1_frontal.jpg": ("finding", "patient00002", "train", ""),
        f"{name}/valid/patient64541/study1/view1_frontal.jpg": ("", "patient64541", "validation", ""),
    }
    first, second, third = answers
    sick = chexpert_row(second, Edema="1.0", Pneumonia="-1.0", Fracture="0.0")
    text(folder, f"{name}/train.csv", header, chexpert_row(first, "1.0"), sick)
    text(folder, f"{name}/valid.csv", header, chexpert_row(third, "0.0"))
    files(folder, *answers)
    return answers


def nih(folder: Path) -> dict[str, Known]:
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    text(
        folder,
        "Data_Entry_2017.csv",
        header,
        "00000001_000.png,Cardiomegaly|Effusion,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
        "00000002_000.png,No Finding,0,2,081Y,M,PA,2500,2048,0.171,0.171,",
    )
    text(folder, "train_val_list.txt", "00000001_000.png")
    text(folder, "test_list.txt", "00000002_000.png")
    files(folder, "images_001/images/00000001_000.png", "images_002/images/00000002_000.png")
    return {
        "images_001/images/00000001_000.png": ("finding", "nih-1", part_of("nih-1", held_out=0.0), ""),
        "images_002/images/00000002_000.png": ("no finding", "nih-2", "held-out", ""),
    }


def kermany(folder: Path) -> dict[str, Known]:
    answers: dict[str, Known] = {
        "chest_xray/train/NORMAL/IM-0115-0001.jpeg": ("normal", "IM-0115", "train", ""),
        "chest_xray/train/NORMAL/NORMAL2-IM-0383-0001-0002.jpeg": ("normal", "NORMAL2-IM-0383", "train", ""),
        "chest_xray/train/PNEUMONIA/person1000_bacteria_2931.jpeg": ("pneumonia", "person1000", "train", ""),
        "chest_xray/train/PNEUMONIA/person1_bacteria_1.jpeg": ("pneumonia", "person1", UNUSED, ""),
        "chest_xray/val/PNEUMONIA/person1946_bacteria_4874.jpeg": ("pneumonia", "person1946", "validation", ""),
        "chest_xray/test/NORMAL/NORMAL-1003233-0001.jpeg": ("normal", "NORMAL-1003233", "held-out", ""),
        "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg": ("pneumonia", "person1", "held-out", ""),
    }
    files(folder, *answers, "chest_xray/train/NORMAL/.DS_Store", "__MACOSX/chest_xray/train/NORMAL/._IM-0115-0001.jpeg")
    return answers


def rsna(folder: Path) -> dict[str, Known]:
    text(
        folder,
        "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target",
        "a1,,,,,0",
        "b2,264.0,152.0,213.0,379.0,1",
        "b2,562.0,152.0,256.0,453.0,1",
        "c3,,,,,0",
    )
    classes = ["a1,Normal", "b2,Lung Opacity", "b2,Lung Opacity", "c3,No Lung Opacity / Not Normal"]
    text(folder, "stage_2_detailed_class_info.csv", "patientId,class", *classes)
    answers: dict[str, Known] = {
        "stage_2_train_images/a1.dcm": ("normal", "a1", part_of("a1"), ""),
        "stage_2_train_images/b2.dcm": ("lung opacity", "b2", part_of("b2"), ""),
        "stage_2_train_images/c3.dcm": ("no lung opacity / not normal", "c3", part_of("c3"), ""),
    }
    files(folder, *answers)
    return answers


def speech(folder: Path) -> dict[str, Known]:
    text(
        folder,
        "speech/manifest.csv",
        "file,label,system,corpus,utterance,source,original_path,licence",
        "libri/a.flac,bonafide,-,LibriSpeech,3005-163389-0005,libri,x,CC-BY-4.0",
        "univnet/b.flac,spoof,univnet_c16,LibriTTS,3005_92135_000006,univnet,y,BSD-3",
    )
    answers: dict[str, Known] = {
        "speech/libri/a.flac": ("bona fide", "libri-3005", UNUSED, ""),  # the speaker is in the other corpus, too
        "speech/univnet/b.flac": ("spoof", "libri-3005", "held-out", "univnet_c16"),
    }
    assert part_of("libri-3005") == "train"
    files(folder, *answers)
    return answers


def children(folder: Path) -> dict[str, Known]:
    lines = ["image,label,cause,patient", "n/IM-1.jpeg,normal,,IM-1", "p/person9.jpeg,pneumonia,bacteria,person9"]
    text(folder, "chest_xray_children/labels.csv", *lines)
    answers: dict[str, Known] = {
        "chest_xray_children/images/n/IM-1.jpeg": ("normal", "IM-1", part_of("IM-1"), ""),
        "chest_xray_children/images/p/person9.jpeg": ("pneumonia", "person9", part_of("person9"), ""),
    }
    files(folder, *answers)
    return answers


def adults(folder: Path) -> dict[str, Known]:
    text(
        folder,
        "chest_xray_adults/labels.csv",
        "image,source_class,nih_labels,patient_id,age,sex,view,rsna_class,rsna_patient_id,rsna_boxes_xywh_1024",
        '61.jpg,Pneumonia,Edema|Pneumonia,61,77,M,AP,Lung Opacity,91b2,"[[172.0, 487.0, 300.0, 258.0]]"',
        "62.jpg,No_findings,No Finding,62,55,F,PA,,,",
    )
    answers: dict[str, Known] = {
        "chest_xray_adults/images/61.jpg": ("lung opacity", "nih-61", part_of("nih-61"), ""),
        "chest_xray_adults/images/62.jpg": ("", "nih-62", part_of("nih-62"), ""),
    }
    files(folder, *answers)
    return answers


def folders(folder: Path) -> dict[str, Known]:
    answers: dict[str, Known] = {
        "mine/cat/anna/1.png": ("cat", "anna", part_of("anna"), ""),
        "mine/dog/anna/2.png": ("dog", "anna", part_of("anna"), ""),
        "mine/dog/3.JPG": ("dog", "dog/3.JPG", part_of("dog/3.JPG"), ""),
    }
    files(folder, *answers, "mine/notes.txt")
    return answers


SETS: dict[str, Callable[[Path], dict[str, Known]]] = {
    "fake-or-real": fake_or_real,
    "asvspoof2019-la": asvspoof2019,
    "asvspoof2021-la": asvspoof2021,
    "wavefake": wavefake,
    "in-the-wild": in_the_wild,
    "chexpert-small": chexpert,
    "nih-chestxray14": nih,
    "kermany": kermany,
    "rsna-pneumonia": rsna,
    "speech": speech,
    "chest-xray-children": children,
    "chest-xray-adults": adults,
    "folder-per-class": folders,
}
OPTIONS: dict[str, dict[str, str]] = {"chexpert-small": {"uncertain": "ones"}}
INSIDE = {"folder-per-class": "mine"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_found_and_read(name: str, tmp_path: Path) -> None:
    answers = SETS[name](tmp_path)
    folder = tmp_path / INSIDE.get(name, "")
    assert detect(folder).id == name
    items = read(folder, **OPTIONS.get(name, {}))
    assert known(items, tmp_path) == answers
    assert items == read(folder, name, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"fake-or-real", "wavefake", "kermany", "folder-per-class"}))
def test_a_file_that_a_table_lists_and_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    path = next(iter(SETS[name](tmp_path)))
    (tmp_path / path).unlink()
    with pytest.raises(DatasetError, match=rf"{Path(path).name}: missing, as 1 of \d listed files are"):
        read(tmp_path, **OPTIONS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "file", "column"),
    [
        ("in-the-wild", "release_in_the_wild/meta.csv", "speaker"),
        ("chexpert-small", "CheXpert-v1.0-small/valid.csv", "Pleural Other"),
        ("nih-chestxray14", "Data_Entry_2017.csv", "Patient ID"),
        ("rsna-pneumonia", "stage_2_train_labels.csv", "Target"),
        ("rsna-pneumonia", "stage_2_detailed_class_info.csv", "class"),
        ("speech", "speech/manifest.csv", "corpus"),
        ("chest-xray-children", "chest_xray_children/labels.csv", "patient"),
        ("chest-xray-adults", "chest_xray_adults/labels.csv", "rsna_class"),
    ],
)
def test_a_missing_column_is_named(name: str, file: str, column: str, tmp_path: Path) -> None:
    SETS[name](tmp_path)
    replaced(tmp_path / file, column, "Other")
    with pytest.raises(DatasetError, match=rf"{Path(file).name}: no column {column}; expected: the columns"):
        read(tmp_path, name, **OPTIONS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("in-the-wild", "release_in_the_wild/meta.csv", ",spoof", ",fake", "0.wav: label 'fake'; expected: bona-fide"),
        ("nih-chestxray14", "Data_Entry_2017.csv", "Effusion", "Efusion", "000.png: label 'Efusion'; expected: Atel"),
        ("rsna-pneumonia", "stage_2_detailed_class_info.csv", "c3,No L", "c3,L", "c3: label 'Lung Opacity / Not"),
        ("rsna-pneumonia", "stage_2_train_labels.csv", "c3,", "d4,", "d4: not in stage_2_detailed_class_info.csv"),
        ("rsna-pneumonia", "stage_2_train_labels.csv", "562.0", "", "b2: an incomplete box"),
        ("speech", "speech/manifest.csv", "bonafide", "real", "a.flac: label 'real'; expected: bonafide or spoof"),
        ("chest-xray-children", "chest_xray_children/labels.csv", "l,,IM", "x,,IM", "jpeg: label 'normax'"),
        ("chest-xray-adults", "chest_xray_adults/labels.csv", "Lung Op", "Op", "61.jpg: label 'Opacity'"),
        ("chexpert-small", "CheXpert-v1.0-small/train.csv", "-1.0", "-2", "Pneumonia: value '-2'; expected: 1, 0"),
        ("chexpert-small", "CheXpert-v1.0-small/valid.csv", "small/valid/", "", "no patient in the path"),
        ("asvspoof2021-la", "keys/LA/CM/trial_metadata.txt", "A07 spoof", "A07 fake", "line 1: label 'fake'"),
        ("asvspoof2021-la", "keys/LA/CM/trial_metadata.txt", " progress", "", "line 2: 7 words; expected: «LA_0009"),
        ("nih-chestxray14", "test_list.txt", "00000002", "00000003", "00000002_000.png: in none of the lists"),
    ],
)
def test_what_a_table_must_not_say_is_named(
    name: str, file: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    SETS[name](tmp_path)
    replaced(tmp_path / file, old, new)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, **OPTIONS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("asvspoof2019-la", "LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.dev.trl.txt", "there is no such file"),
        ("asvspoof2021-la", "keys/LA/CM/trial_metadata.txt", "recordings without labels.*LA-keys-full.tar.gz"),
        ("nih-chestxray14", "test_list.txt", "there is no such file; expected: train_val_list.txt and test_list.txt"),
        ("rsna-pneumonia", "stage_2_detailed_class_info.csv", "there is no such file; expected: a table with"),
        ("chexpert-small", "CheXpert-v1.0-small/valid.csv", "there is no such file; expected: a table with"),
    ],
)
def test_a_missing_table_is_named(name: str, file: str, message: str, tmp_path: Path) -> None:
    SETS[name](tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, **OPTIONS.get(name, {}))


def test_a_line_that_ends_early_is_named(tmp_path: Path) -> None:
    in_the_wild(tmp_path)
    replaced(tmp_path / "release_in_the_wild/meta.csv", "0.wav,Alec Guinness,spoof", "0.wav,Alec")
    with pytest.raises(DatasetError, match=r"meta.csv, line 2: the line ends early; expected: 3 columns"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "path"),
    [("kermany", "chest_xray/train/COVID/x.jpeg"), ("fake-or-real", "for-norm/for-norm/training/both/file1.wav")],
)
def test_an_unknown_class_folder_is_named(name: str, path: str, tmp_path: Path) -> None:
    SETS[name](tmp_path)
    files(tmp_path, path)
    with pytest.raises(DatasetError, match=f"label '{Path(path).parent.name}'; expected: "):
        read(tmp_path)


def test_a_name_without_a_patient_and_a_folder_without_a_corpus_are_named(tmp_path: Path) -> None:
    kermany(tmp_path / "a")
    files(tmp_path / "a", "chest_xray/train/NORMAL/scan.jpeg")
    with pytest.raises(DatasetError, match=r"scan.jpeg: no patient in the file's name; expected: a name like person9_"):
        read(tmp_path / "a")
    wavefake(tmp_path / "b")
    files(tmp_path / "b", "generated_audio/mine_hifigan/1_gen.wav")
    with pytest.raises(DatasetError, match=r"mine_hifigan: a generator's folder without a corpus; expected: ljspeech_"):
        read(tmp_path / "b")


class TestChexpertPolicies:
    @pytest.mark.parametrize(("policy", "pneumonia"), [("zeros", 0), ("ones", 1), ("ignore", None)])
    def test_uncertain_findings_become_what_was_chosen(
        self, policy: str, pneumonia: int | None, tmp_path: Path
    ) -> None:
        chexpert(tmp_path)
        _, sick, _ = read(tmp_path, uncertain=policy)
        assert sick.findings.get("Pneumonia") == pneumonia
        assert ("Pneumonia" in sick.findings) is (pneumonia is not None)
        assert (sick.findings["Edema"], sick.findings["Fracture"], sick.findings["Atelectasis"]) == (1, 0, 0)
        assert sick.extra == {"sex": "Female", "age": "68", "projection": "AP", "view": "frontal"}

    @pytest.mark.parametrize("options", [{}, {"uncertain": "u-ones"}])
    def test_there_is_no_policy_by_default(self, options: dict[str, str], tmp_path: Path) -> None:
        chexpert(tmp_path)
        with pytest.raises(DatasetError, match=r"policy.*uncertain='zeros', uncertain='ones', uncertain='ignore'"):
            read(tmp_path, **options)


def test_findings_and_boxes_are_the_publishers(tmp_path: Path) -> None:
    nih(tmp_path / "nih")
    first, second = read(tmp_path / "nih")
    assert {name for name, value in first.findings.items() if value} == {"Cardiomegaly", "Effusion"}
    assert len(second.findings) == 14 and not any(second.findings.values())
    rsna(tmp_path / "rsna")
    boxes = {item.group: item.extra.get("boxes") for item in read(tmp_path / "rsna")}
    assert boxes == {"a1": None, "b2": ((264.0, 152.0, 213.0, 379.0), (562.0, 152.0, 256.0, 453.0)), "c3": None}


def test_images_of_one_nih_patient_are_one_group_when_rsnas_mapping_is_there(tmp_path: Path) -> None:
    rsna(tmp_path)
    mapping = tmp_path / "pneumonia-challenge-dataset-mappings_2018.json"
    rows = [{"subset_img_id": id, "img_id": f"0000006{k}_012.png"} for id, k in (("a1", 1), ("b2", 1), ("c3", 2))]
    mapping.write_text(json.dumps(rows))
    assert [item.group for item in read(tmp_path)] == ["nih-61", "nih-61", "nih-62"]
    mapping.write_text(json.dumps([{"id": 1}]))
    with pytest.raises(DatasetError, match=r"mappings_2018.json: not the mapping \(KeyError\('subset_img_id'\)\)"):
        read(tmp_path)


def test_a_published_training_part_gives_a_tenth_of_its_groups_to_validation(tmp_path: Path) -> None:
    for k in range(200):
        files(tmp_path, f"chest_xray/train/NORMAL/IM-{k:04}-0001.jpeg", f"chest_xray/train/NORMAL/IM-{k:04}-0002.jpeg")
    files(tmp_path, "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg")
    items = read(tmp_path, seed=3)
    validation = {item.group for item in items if item.part == "validation"}
    assert 10 <= len(validation) <= 30
    assert {item.part for item in items if item.group in validation} == {"validation"}
    assert [item.part for item in items if item.label == "pneumonia"] == ["held-out"]
    assert validation != {item.group for item in read(tmp_path, seed=4) if item.part == "validation"}


def test_a_folder_per_class_may_have_parts(tmp_path: Path) -> None:
    files(tmp_path, "train/real/ann/1.wav", "train/fake/bob/2.wav", "test/real/ann/3.wav", "test/fake/cid/4.wav")
    files(tmp_path, "val/fake/4.wav")
    items = {item.path.name + item.part: (item.label, item.group) for item in read(tmp_path)}
    assert items == {
        "1.wavunused": ("real", "ann"),
        "2.wavtrain": ("fake", "bob"),
        "3.wavheld-out": ("real", "ann"),
        "4.wavheld-out": ("fake", "cid"),
        "4.wavvalidation": ("fake", "validation/fake/4.wav"),
    }
    files(tmp_path, "train/real/scan.png")
    with pytest.raises(DatasetError, match="recordings and radiographs; expected: one of them"):
        read(tmp_path)


def test_variants_of_fake_or_real_are_read_one_by_one(tmp_path: Path) -> None:
    fake_or_real(tmp_path)
    files(tmp_path, "for-2sec/for-2seconds/training/fake/file7.wav_2sec.wav")
    with pytest.raises(DatasetError, match=r"several variants.*for-2seconds, for-norm.*give the folder of the one"):
        read(tmp_path)
    assert [item.extra for item in read(tmp_path / "for-2sec")] == [{"variant": "2sec"}]
    assert {item.extra["variant"] for item in read(tmp_path / "for-norm" / "for-norm")} == {"norm"}


class TestDetect:
    def test_says_what_it_looked_for(self, tmp_path: Path) -> None:
        files(tmp_path, "notes.txt", "one/1.wav")
        with pytest.raises(DatasetError) as caught:
            detect(tmp_path)
        assert all(f"{layout.id}: {layout.looks_for}" in str(caught.value) for layout in LAYOUTS.values())

    def test_a_wrong_layout_or_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no layout 'mnist'; expected: fake-or-real, asvspoof2019-la"):
            read(tmp_path, "mnist")
        with pytest.raises(DatasetError, match="not the layout of kermany; expected: chest_xray/train"):
            read(tmp_path, "kermany")
        with pytest.raises(DatasetError, match="nowhere: there is no such folder"):
            detect(tmp_path / "nowhere")

    def test_several_data_sets_in_one_folder_are_named(self, tmp_path: Path) -> None:
        children(tmp_path)
        adults(tmp_path)
        with pytest.raises(DatasetError, match=r"several data sets \(chest-xray-children, chest-xray-adults\)"):
            detect(tmp_path)
        assert len(read(tmp_path, "chest-xray-adults")) == 2
        assert detect(tmp_path / "chest_xray_children").id == "chest-xray-children"

    def test_empty_classes_are_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "chest_xray" / "train" / "NORMAL").mkdir(parents=True)
        with pytest.raises(DatasetError, match="not one item"):
            read(tmp_path)


def test_the_real_samples_are_read(shared_data: Path) -> None:
    items = {name: read(shared_data, name) for name in ("speech", "chest-xray-children", "chest-xray-adults")}
    assert {name: len(found) for name, found in items.items()} == {
        "speech": 545,
        "chest-xray-children": 5104,
        "chest-xray-adults": 773,
    }
    assert sum(item.label == "spoof" for item in items["speech"]) == 115
    assert sum(item.label == "pneumonia" for item in items["chest-xray-children"]) == 3756
    assert sum("boxes" in item.extra for item in items["chest-xray-adults"]) == 102
    for found in items.values():
        parts = {(item.group, item.part) for item in found if item.part != UNUSED}
        assert len(parts) == len({group for group, _ in parts})
