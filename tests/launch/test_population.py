"""launch/population.py: from its command to a student, deterministic, interrupted, gone on with."""

import json

import pytest
import signals
import torch
from runs import read_metrics, read_summary, save_random_expert, teacher_options

from launch import multitask
from launch import population as command
from launch.population import main
from networks.student_file import load_student
from records.population import PopulationFiles
from records.run_record import read_tests
from records.summary import Summary

GAMES = [spec.name for spec in signals.GAMES]
LINES = [
    *("--preset", "smoke", "--engine", "local", "--objective", "joint", "--members", "3"),
    *("--games", *GAMES, "--slice-steps", "64", "--exploit.margin", "0.5"),
    *("--evaluation.check-teachers", "0"),
]


@pytest.fixture
def words(small_run, tmp_path):
    for seed, game in enumerate(GAMES):
        save_random_expert(tmp_path, game, torso="minatar", seed=seed)
    return [*LINES, *small_run, *teacher_options(tmp_path, GAMES)]


def lineage(run):
    """Records without digests, which hold the time."""
    records = PopulationFiles(run).read_records().values()
    return [
        (r.incarnations, [b.model_copy(update={"digest": ""}) for b in r.boundaries])
        for r in records
    ]


def test_a_population_ends_with_what_every_run_ends_with_and_its_line_of_ancestors(words, tmp_path):
    main([*words, "--run-dir", "run"])
    run = tmp_path / "run"
    summary = Summary.model_validate(read_summary(run))
    assert set(summary.games) == set(GAMES)
    assert load_student(run / "student").state_dict()
    outcome = PopulationFiles(run).read_summary()
    kept = str(outcome.student_of)
    assert outcome.picked_score == max(ending.score for ending in outcome.members.values())
    assert outcome.steps > 2 * sum(summary.steps.values())
    scores = {game: row.student.mean for game, row in summary.games.items()}
    # The student was tested once more: its summary is not the luckiest member's.
    assert sum(scores.values()) / len(scores) == pytest.approx(outcome.confirmed_score)
    before = json.loads((run / "members" / kept / "summary.json").read_text())["games"]
    assert {game: row["student"]["mean"] for game, row in before.items()} != scores
    line = outcome.ancestry
    assert line[-1].member == outcome.student_of
    records = PopulationFiles(run).read_records()
    assert records[line[0].member].incarnations[line[0].incarnation].parent is None
    assert any(
        incarnation.parent and incarnation.parent.member != number
        for number, record in records.items()
        for incarnation in record.incarnations
    ), "nobody has copied, so this test shows little"
    # Metrics go along the line, one clock for all, with the last test at their end.
    rows = read_metrics(run)
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    updates = [row["updates"] for row in rows]
    assert updates == sorted(updates)
    tests = read_tests(run / "metrics.jsonl")
    for game in GAMES:
        assert len(tests[game]) == len(records[outcome.student_of].boundaries) + 1
        assert tests[game][-1].figures["mean"] == pytest.approx(scores[game], rel=1e-6)


def test_the_same_seed_gives_the_same_lineage_and_another_one_another(words, tmp_path):
    for name, seed in (("one", "5"), ("same", "5"), ("other", "6")):
        main([*words, "--run-dir", name, "--seed", seed])
    one, same, other = (lineage(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert one != other
    weights = [load_student(tmp_path / name / "student").state_dict() for name in ("one", "same")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_population_of_one_learns_what_the_run_by_itself_learns(words, tmp_path):
    main([*words, "--members", "1", "--run-dir", "one"])
    start = words.index("--slice-steps")
    alone = [*words[:start], *words[start + 4 :]]
    del alone[alone.index("--members") : alone.index("--members") + 2]
    multitask.main([*alone, "--run-dir", "alone"])
    one, by_itself = (
        load_student(tmp_path / name / "student").state_dict() for name in ("one", "alone")
    )
    assert all(torch.equal(one[key], by_itself[key]) for key in one)


@pytest.mark.parametrize("comparisons", [1, 2, 3, 4, 5])
def test_an_interrupted_population_goes_on_with_the_lineage_it_had(
    words, tmp_path, monkeypatch, comparisons
):
    told = []

    def tell(line):
        told.append(line)
        if sum("score" in text for text in told) == comparisons:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "_tell", tell)
        with pytest.raises(KeyboardInterrupt):
            main([*words, "--run-dir", "run"])
    before = lineage(tmp_path / "run")
    main(["--resume", "run"])
    after = lineage(tmp_path / "run")
    for (had, scored), (has, has_scored) in zip(before, after, strict=True):
        assert has[: len(had)] == had
        assert has_scored[: len(scored)] == scored
    main([*words, "--run-dir", "uncut"])
    # Decisions that were under way are those of a population that nobody has interrupted.
    for (had, scored), (has, _) in zip(lineage(tmp_path / "uncut"), after, strict=True):
        known = max(1, len([i for i in had if i.updates <= comparisons // 3 * scored[0].updates]))
        assert has[:known] == had[:known]
    assert (tmp_path / "run" / "student").is_dir()


def test_members_without_a_whole_folder_or_a_last_test_are_brought_to_their_end(words, tmp_path):
    main([*words, "--run-dir", "run"])
    run = tmp_path / "run"
    (run / "members" / "0" / "meta.json").unlink()  # As if it had died while it was made.
    path = run / "members" / "1" / "summary.json"
    summary = json.loads(path.read_text())
    for row in summary["games"].values():
        row["student"]["mean"] = None
    path.write_text(json.dumps(summary))
    (run / "summary.json").unlink()
    main(["--resume", "run"])
    outcome = PopulationFiles(run).read_summary()
    assert all(ending.score is not None for ending in outcome.members.values())
    Summary.model_validate(read_summary(run))


def test_members_that_an_earlier_launcher_has_left_are_not_carried_twice(words, tmp_path):
    main([*words, "--run-dir", "run"])
    files = PopulationFiles(tmp_path / "run")
    lock = files.try_lock(1)
    assert lock is not None
    with lock, pytest.raises(ValueError, match=r"member 1 is still carried .*--side-by-side True"):
        main(["--resume", "run"])
    main(["--resume", "run"])


def test_a_member_that_diverges_is_lost_and_the_others_go_on(words, tmp_path):
    apart = ["--tune", "learner.learning-rate", "--exploit.enabled", "False"]
    wide = ["--bounds", "learner.learning-rate=1e-6,1e30", "--explore.enabled", "False"]
    # Members of this seed begin with rates of 5e23, 4e25 and 7e-4.
    main([*words, *apart, *wide, "--seed", "20", "--run-dir", "run"])
    outcome = PopulationFiles(tmp_path / "run").read_summary()
    lost = {number: ending.lost for number, ending in outcome.members.items() if ending.lost}
    assert "diverged" in " ".join(lost.values())
    assert 0 < len(lost) < 3
    assert str(outcome.student_of) not in lost
    assert all(outcome.members[number].score is None for number in lost)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tune", "replay.batch-size"], "replay.batch-size cannot be tuned"),
        (["--bounds", "learner.learning-rate=1,0.1"], "out of order"),
        (["--objective", "mimic", "--tune", "distillation.weight"], "objective mimic"),
        (["--learner.num-replicas", "2", "--engine", "ray"], "num-replicas"),
        (["--run-dir", "taken"], "has something in it"),
        (["--address", "http://127.0.0.1:9"], "no Ray cluster takes jobs"),
        (["--only-member", "0"], "goes on with a population"),
        (["--only-member", "first"], "needs the number of a member, not 'first'"),
        (["--only-member"], "needs the number of a member"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(words, tmp_path, more, said):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ValueError, match=said):
        main([*words, "--run-dir", "run", *more])
    assert not (tmp_path / "run").exists()


def test_one_member_that_is_told_to_exploit_is_refused_in_one_line(words):
    with pytest.raises(ValueError, match="nobody to learn from") as refusal:
        main([*words, "--members", "1", "--exploit.enabled", "True"])
    assert "\n" not in str(refusal.value)


def test_a_run_by_itself_is_not_gone_on_with_as_a_population(words, tmp_path):
    single = [word for word in words]
    start = single.index("--slice-steps")
    del single[start : start + 4]
    del single[single.index("--members") : single.index("--members") + 2]
    multitask.main([*single, "--run-dir", "alone"])
    with pytest.raises(ValueError, match="not a population"):
        main(["--resume", "alone"])
