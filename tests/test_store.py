"""The store of maps: what was put comes back, damage is noticed, the oldest go, several processes do no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import radiograph, seer

import xai_panel.explanation.store as store_module
from xai_panel.engine.explain import explain
from xai_panel.explanation.store import Store, code_digest, default_folder, default_store, key, scratch


def some(seed: int = 0, shape: tuple[int, ...] = (24, 40)) -> dict[str, np.ndarray]:
    return {"values": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def entry(store: Store, key: str) -> Path:
    return next(store.folder.glob(f"maps/*/{key}*"))


def age(store: Store, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(entry(store, key), (then, then))


def test_what_was_put_comes_back(tmp_path):
    store = Store(tmp_path)
    arrays = some() | {"spread": np.zeros((2, 9000), np.float32), "windows": np.arange(6).reshape(3, 2)}
    attrs = {"error": float("nan"), "kind": "größter «Fehler»", "count": 3, "list": [1, "a"]}
    store.put("ab" * 32, arrays, attrs)
    found, kept = store.get("ab" * 32)
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    assert np.isnan(kept.pop("error"))
    assert kept == {name: value for name, value in attrs.items() if name != "error"}


def test_what_was_not_put_is_not_there(tmp_path):
    assert Store(tmp_path / "new").get("00" * 32) is None
    assert not (tmp_path / "new").exists()


def test_keys_tell_values_apart_and_not_their_order():
    assert key(a=1, b="x") == key(b="x", a=1)
    assert len({key(a=1), key(a=2), key(b=1), key(a="1"), key(a=None)}) == 5


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_entry_is_never_served(tmp_path_factory, place, change, cut):
    store, arrays = Store(tmp_path_factory.mktemp("store")), some()
    store.put("cd" * 32, arrays, {"error": 1.0})
    path = entry(store, "cd" * 32)
    data = bytearray(path.read_bytes())
    position = int(place * len(data))
    if cut:
        del data[position:]
    else:
        data[position] ^= change
    path.write_bytes(data)
    found = store.get("cd" * 32)
    if found is not None:  # a byte that nobody reads, such as a date in the zip's directory
        np.testing.assert_array_equal(found[0]["values"], arrays["values"])
        assert found[1] == {"error": 1.0}
    else:
        assert "cd" * 32 not in store


@pytest.mark.parametrize("again", [False, True], ids=["removed", "written anew"])
def test_an_entry_that_goes_while_it_is_read_is_not_damaged(tmp_path, monkeypatch, caplog, again):
    store, real = Store(tmp_path), store_module._read
    store.put("ab" * 32, some(1), {})

    def overtaken(path: Path):
        monkeypatch.setattr(store_module, "_read", real)
        store.clear()
        if again:
            store.put("ab" * 32, some(2), {})
        raise AttributeError("'ZipStore' object has no attribute '_zf'")  # what Zarr makes of a file that is gone

    monkeypatch.setattr(store_module, "_read", overtaken)
    found = store.get("ab" * 32)
    assert (found is not None) == again
    if found is not None:
        np.testing.assert_array_equal(found[0]["values"], some(2)["values"])
    assert "damaged" not in caplog.text


def test_a_damaged_map_is_logged_and_computed_again(tmp_path, caplog):
    store = Store(tmp_path)
    first = explain(seer(), radiograph(), ["saliency"], store=store)
    for path in tmp_path.glob("maps/*/*.zip"):  # the verdict and the map
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 0xFF
        path.write_bytes(data)
    second = explain(seer(), radiograph(), ["saliency"], store=store)
    assert "is damaged and will be computed again" in caplog.text
    np.testing.assert_array_equal(first["attribution"], second["attribution"])
    caplog.clear()
    explain(seer(), radiograph(), ["saliency"], store=store)
    assert "damaged" not in caplog.text


def test_the_entries_used_longest_ago_go_first(tmp_path):
    store = Store(tmp_path)
    for i in range(5):
        store.put(f"{i:064d}", some(i), {})
        age(store, f"{i:064d}", 100 - i)
    size = store.size() // 5
    assert store.get(f"{0:064d}") is not None  # reading makes it the youngest
    small = Store(tmp_path, limit=4 * size)
    small.put(f"{5:064d}", some(5), {})
    assert small.size() <= small.limit
    assert [i for i in range(6) if f"{i:064d}" in small] == [0, 4, 5]


def test_the_store_never_grows_far_beyond_its_limit(tmp_path):
    one = Store(tmp_path / "one")
    one.put("ee" * 32, some(), {})
    store = Store(tmp_path / "many", limit=6 * one.size())
    for i in range(30):
        store.put(f"{i:064d}", some(i), {})
        assert store.size() <= store.limit + one.size()


def test_an_entry_larger_than_the_store_is_not_kept(tmp_path):
    store = Store(tmp_path, limit=1000)
    store.put("ff" * 32, some(), {})
    assert "ff" * 32 not in store


def test_what_a_dead_process_left_unfinished_is_removed(tmp_path):
    store = Store(tmp_path, limit=10_000)
    (tmp_path / "unfinished").mkdir(parents=True)
    left, fresh = tmp_path / "unfinished" / "old.zip", tmp_path / "unfinished" / "new.zip"
    for path in (left, fresh):
        path.write_bytes(b"half an entry")
    os.utime(left, (1, 1))
    store.put("aa" * 32, some(), {})
    assert not left.exists() and fresh.exists()


def test_folder_and_limit_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_PANEL_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("XAI_PANEL_CACHE_BYTES", "12345")
    store = default_store()
    assert (store.folder, store.limit) == (tmp_path / "here", 12345)
    assert default_store() is store
    monkeypatch.setenv("XAI_PANEL_CACHE_BYTES", "2 GB")
    with pytest.raises(ValueError, match="expected a number of bytes"):
        default_store()
    monkeypatch.delenv("XAI_PANEL_CACHE")
    assert default_folder().name == "xai_panel"


def test_the_code_of_the_maps_has_a_digest():
    assert len(code_digest()) == 64 and code_digest() == code_digest()


def test_large_arrays_live_in_a_file_and_behave_the_same():
    large = scratch((9, 2**23))
    assert isinstance(large, np.memmap)
    large[3, 5] = 2.5
    assert large[3].sum() == 2.5 and large[4, -1] == 0


def test_threads_that_write_and_read_the_same_entries(tmp_path):
    store, wrong = Store(tmp_path, limit=60_000), []

    def work(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 12, 40):
            name, expected = f"{i:064d}", some(int(i))
            found = store.get(name)
            if found is None:
                store.put(name, expected, {})
            elif not np.array_equal(found[0]["values"], expected["values"]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


WRITER = """
import sys
import numpy as np
from pathlib import Path
from xai_panel.explanation.store import Store
store = Store(Path(sys.argv[1]), limit=400_000)
print("ready", flush=True)
i = int(sys.argv[2])
while True:
    i = (i + 1) % 40
    values = np.random.default_rng(i).standard_normal((24, 400)).astype(np.float32)
    found = store.get(f"{i:064d}")
    if found is None:
        store.put(f"{i:064d}", {"values": values}, {"i": i})
    elif not np.array_equal(found[0]["values"], values):
        print("WRONG", flush=True)
"""

HOLDER = """
import sys, time
from pathlib import Path
from xai_panel.explanation.store import Store
claim = Store(Path(sys.argv[1])).claim("question")
print(claim.acquire(), flush=True)
time.sleep(60)
"""


def start(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() in ("ready", "True")
    return process


def test_processes_that_are_killed_while_they_write_leave_a_sound_store(tmp_path, caplog):
    pause = np.random.default_rng(0)
    for round in range(3):
        writers = [start(WRITER, tmp_path, 13 * k + round) for k in range(2)]
        time.sleep(float(pause.uniform(0.1, 0.4)))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            out, err = writer.communicate(timeout=10)
            assert "WRONG" not in out and "damaged" not in err
    store = Store(tmp_path, limit=400_000)
    found = [i for i in range(40) if store.get(f"{i:064d}") is not None]
    assert found
    assert "damaged" not in caplog.text


def test_a_claim_belongs_to_one_at_a_time_and_is_free_after(tmp_path):
    store = Store(tmp_path)
    mine, other = store.claim("question"), store.claim("question")
    assert mine.acquire() and not other.acquire()
    assert store.claim("another").acquire()
    mine.release()
    assert other.acquire()
    mine.release()  # a second release takes nothing from the other
    assert not mine.acquire()
    other.release()
    assert not list(tmp_path.glob("claims/question*"))


def test_the_claim_of_a_killed_process_is_free(tmp_path):
    holder = start(HOLDER, tmp_path)
    claim = Store(tmp_path).claim("question")
    assert not claim.acquire()
    holder.kill()
    holder.communicate(timeout=10)
    assert claim.acquire()
    claim.release()
