"""The package against the model in this repository."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import dsv4

PATH = Path(__file__).resolve().parents[2] / "model/small.gguf"


@pytest.fixture(scope="module")
def model() -> dsv4.Model:
    return dsv4.Model(PATH)


def test_generates_piece_by_piece(model: dsv4.Model) -> None:
    with model.session(512) as session:
        made = dsv4.Generation()
        prompt = model.tokenizer.chat("Tell me a story.")
        pieces = list(session.generate(prompt, max_tokens=30, into=made))
        assert len(pieces) > 10 and all(pieces)
        assert "".join(pieces) == model.tokenizer.decode(made.tokens)
        assert made.finish in ("stop", "length")
        # The same again: the prompt is kept, and greedy is greedy.
        assert session.position >= len(prompt)
        assert list(session.generate(prompt, max_tokens=30)) == pieces
        drawn = [list(session.generate(prompt, max_tokens=30, temperature=1.0, seed=5)) for _ in range(2)]
        assert drawn[0] == drawn[1] != pieces


def test_logits_are_written_in_place_and_do_not_depend_on_chunks(model: dsv4.Model) -> None:
    vocab, tokens = model.info.vocab, list(range(3, 90))
    with model.session(128, batch=16) as session:
        rows = session.eval(tokens, logits="all")
        assert rows.shape == (len(tokens), vocab) and rows.dtype == np.float32 and np.isfinite(rows).all()
        session.rewind(0)
        out = np.full(vocab, np.nan, np.float32)
        assert session.eval(tokens[:40], logits="none").size == 0
        assert session.eval(np.array(tokens[40:], np.uint32), out=out) is out
        assert np.array_equal(out, rows[-1])
        assert session.tokens == tokens
        with pytest.raises(ValueError):
            session.eval([1], out=np.empty(vocab))  # type: ignore[arg-type]
        with dsv4.Sampler(vocab) as sampler:
            top = sampler.top(out, 3)
            assert top[0][0] == int(out.argmax()) and top[0][1] <= 0
            exact = out.astype(np.float64)
            assert np.isclose(top[0][1], exact.max() - np.logaddexp.reduce(exact), atol=1e-5)
            assert sampler.sample(out.copy(), bias={7: float("inf")}) == 7


def test_a_saved_session_goes_on_elsewhere(model: dsv4.Model) -> None:
    tokens = list(range(3, 90))
    with model.session(256) as session, model.session(128, batch=7, rewind=0) as other:
        session.eval(tokens[:60])
        snapshot = session.save()
        wanted = session.eval(tokens[60:])
        other.restore(snapshot)
        assert other.tokens == tokens[:60]
        assert np.array_equal(other.eval(tokens[60:]), wanted)
        session.restore(memoryview(snapshot))
        assert session.position == 60 and session.save() == snapshot
        for damaged, name in [(b"", "NOT_SNAPSHOT"), (snapshot[:-1], "SNAPSHOT_DAMAGED")]:
            with pytest.raises(dsv4.Error) as caught:
                session.restore(damaged)
            assert caught.value.status_name == f"DSV4_{name}"
        with model.session(256, exact=True) as exact, pytest.raises(dsv4.Error):
            exact.restore(snapshot)
        with model.session(59) as short, pytest.raises(dsv4.ContextFull):
            short.restore(snapshot)
        assert session.position == 60


def test_text(model: dsv4.Model) -> None:
    tokenizer = model.tokenizer
    for text in ["One day Tim went home.", "", "héllo — 你好 🙂", "a" * 5000]:
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        stream = tokenizer.stream()
        assert "".join(stream.push(token) for token in tokens) + stream.end() == text
    assert tokenizer.find("<think>") in tokenizer.encode("<think>", special=True)
    assert tokenizer.find("<think>") not in tokenizer.encode("<think>")
    assert tokenizer.find("no token is like this") is None
    with dsv4.Tokenizer(PATH) as other:
        assert (other.bos, other.eos, other.vocab) == (tokenizer.bos, tokenizer.eos, tokenizer.vocab)


def test_progress_cancels(model: dsv4.Model) -> None:
    told: list[float] = []

    def half(done: float) -> bool:
        told.append(done)
        return done < 0.5

    with model.session(512, batch=8) as session:
        with pytest.raises(dsv4.Cancelled):
            session.eval([5] * 200, progress=half)
        assert told == sorted(told) and 0.5 <= told[-1] < 0.6
        assert 90 <= session.position <= 100
        # An exception of the callback comes through, and what was evaluated stays.
        with pytest.raises(ZeroDivisionError):
            session.eval([5] * 20, progress=lambda done: bool(1 / 0))
        session.cancel()
        with pytest.raises(dsv4.Cancelled):
            session.eval([5])
        session.eval([5], progress=True)


def test_other_threads_run_and_sharing_is_refused(model: dsv4.Model) -> None:
    with model.session(2048, batch=2048) as session:
        counted, inside, done = 0, threading.Event(), threading.Event()

        def progress(_: float) -> None:
            inside.set()
            time.sleep(0.002)

        def work() -> None:
            session.eval([5] * 2000, logits="none", progress=progress)
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        # Earlier, the rewind could have the session first, and the evaluation be refused.
        assert inside.wait(60)
        busy = False
        while not done.is_set():
            counted += 1
            try:
                session.rewind(0)
            except dsv4.Busy:
                busy = True
        thread.join()
        assert busy and counted > 10


def test_errors_tell_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(dsv4.Error) as caught:
        dsv4.Model(tmp_path / "missing.gguf")
    assert caught.value.status_name == "DSV4_IO" and "missing.gguf" in str(caught.value)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(PATH.read_bytes()[:-1000])
    with pytest.raises(dsv4.Error) as caught:
        dsv4.Model(cut)
    assert caught.value.status_name in ("DSV4_TRUNCATED", "DSV4_BAD_OFFSET")
    lines: list[tuple[str, str]] = []
    model = dsv4.Model(PATH.read_bytes(), threads=1, log=lambda level, line: lines.append((level, line)))
    with pytest.raises(dsv4.Error) as caught:
        model.session(10**9)
    assert caught.value.status_name == "DSV4_BAD_ARGUMENT" and "context" in str(caught.value)
    session = model.session(4)
    assert [level for level, _ in lines] == ["info", "info"]
    with pytest.raises(dsv4.ContextFull):
        session.eval([1] * 5)
    with pytest.raises(dsv4.Busy):
        model.close()
    session.close()
    session.close()
    with pytest.raises(ValueError):
        session.eval([1])
    model.close()


def test_nothing_is_left_when_references_end() -> None:
    for _ in range(20):
        session = dsv4.Model(PATH, threads=1).session(64)
        session.eval([1, 2, 3])
        del session
    gc.collect()
    assert dsv4.version().count(".") == 2
