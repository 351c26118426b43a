"""A sample of `campaigns/cuts.py`: streams that break off, gone on with between all wire formats."""

from pathlib import Path

from campaigns import cuts


def test_streams_that_break_off_are_gone_on_with(tmp_path: Path) -> None:
    wanted = cuts.sample()
    assert {cut.first for cut in wanted} == {cut.second for cut in wanted} == set(cuts.FORMS)
    assert {cut.fault for cut in wanted} == set(cuts.FAULTS)
    results = cuts.run(tmp_path, wanted)
    assert [(str(cut), problem) for cut, _, _, problem in results if problem] == []
    assert sum(whole for _, _, whole, _ in results) >= cuts.GOOD_SHARE * len(results)


def test_a_judge_that_sees_nothing_wrong_is_none() -> None:
    cut = cuts.Cut("vllm", "mts", "reset", 17, "recite 45 words")
    good = cuts.Seen(text="the whole", finishes=1, done=True, resumed=2, ids=1, usage={"total_tokens": 3})
    assert cuts.judge(cut, good, "the whole") == (True, None)
    for change in (
        {"text": "the the whole"},
        {"text": "the who"},
        {"finishes": 2},
        {"done": False},
        {"error": {"message": "x"}},
        {"resumed": 1},
        {"ids": 2},
        {"usage": None},
        {"broken": "cut"},
        {"seconds": 99.0},
    ):
        assert cuts.judge(cut, cuts.Seen(**{**vars(good), **change}), "the whole")[1], change
    error = cuts.Seen(text="the", error={"message": "x"})
    assert cuts.judge(cut, error, "the whole") == (False, None)
