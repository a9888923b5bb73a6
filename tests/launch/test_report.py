"""Reports: which runs belong together, what is in the figures, and what is on the page."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from recorded_runs import make_run, student_mean

from launch.report import ReportOptions
from recipes.ranges import check_ranges
from records.run_record import read_run
from views.report.curves import Unit, weights_chart
from views.report.groups import group_runs
from views.report.score_charts import learning_curve
from views.report.scores import headline
from views.report.tables import games_table
from views.report.writing import figures_folder, write_report

NUM_TESTS, NUM_LOOKS = 12, 24
TOTAL = NUM_LOOKS * 2000
STEPS = Unit("thousand steps", 1e3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three seeds of one setting, two of another, and some that are not whole."""
    root = tmp_path_factory.mktemp("runs")
    usual = {"num_tests": NUM_TESTS, "num_looks": NUM_LOOKS, "with_student": False}
    for seed in (1, 2, 3):
        make_run(root / f"seed{seed}", seed=seed, **usual)
    for seed in (4, 5):
        make_run(root / f"sharp{seed}", seed=seed, options=["--mimic.temperature", "0.5"], **usual)
    make_run(root / "begun", num_tests=0, num_looks=2, finish=False, with_student=False)
    make_run(root / "empty", num_tests=0, num_looks=0, finish=False, with_student=False)
    make_run(root / "alone", games=["pong"], num_tests=1, num_looks=1)
    return root


def groups_of(folder, *names):
    return group_runs([read_run(folder / name) for name in names])


SEEDS = ("seed1", "seed2", "seed3")


# Which runs belong together


def test_runs_that_differ_in_their_seed_alone_are_one_group(folder):
    (group,) = groups_of(folder, *SEEDS)
    assert [run.seed for run in group.runs] == [1, 2, 3]
    assert group.label == "seed"


@pytest.mark.parametrize(
    "option",
    [
        ("--dashboard.port", "8686"), ("--dashboard.token-file", "/home/me/token"),
        ("--evaluation.check-teachers", "3"), ("--evaluation.period-steps", "700"),
        ("--report-period-s", "2"), ("--checkpoint.keep", "7"), ("--device", "cpu"),
        ("--report-at-end", "False"), ("--replay.compression", "lz4"), ("--replay.spread", "True"),
        ("--replay.num-batch-slots", "2"), ("--replay.snapshot-period-s", "60"),
    ],
)  # fmt: skip
def test_settings_that_change_nothing_that_is_learned_do_not_part_runs(folder, tmp_path, option):
    usual = {"num_tests": 1, "num_looks": 1, "with_student": False}
    make_run(tmp_path / "other9", seed=9, options=option, **usual)
    records = [read_run(folder / "seed1"), read_run(tmp_path / "other9")]
    (group,) = group_runs(records)
    assert len(group.runs) == 2


# The headline and the tables


def test_the_headline_says_how_far_the_network_has_come_and_how_sure_that_is(folder):
    (group,) = groups_of(folder, *SEEDS)
    said = headline(group)
    pattern = (
        r"The network has come \d+% of the way from random play to its experts "
        r"\(interquartile mean over 2 games, 95% interval \d+% to \d+% over 3 seeds\): "
        r"pong \d+%, boxing \d+%\."
    )
    assert re.fullmatch(pattern, said)
    (alone,) = groups_of(folder, "alone")
    assert "to its experts (last test): pong " in headline(alone)
    (begun,) = groups_of(folder, "begun")
    assert headline(begun) == "No test of the network has been played yet."


def test_the_headline_of_a_network_below_random_play_says_so(folder):
    run = read_run(folder / "alone")
    games = {"pong": run.summary["games"]["pong"] | {"student": {"mean": -20.9, "episodes": 1}}}
    (group,) = group_runs([replace(run, summary=run.summary | {"games": games})])
    said = "The network is not above random play yet, on its way to its experts (last test): pong "
    assert headline(group).startswith(said)


def test_each_teachers_weight_is_in_the_table_and_a_chart(folder):
    run = read_run(folder / "alone")
    start, step = {"seconds": 1.0, "steps": 10.0}, {"seconds": 2.0, "steps": 20.0}
    key = "game/pong/distillation_weight"
    looks = [start | {key: 0.5, f"{key}_2": 1.0}, step | {key: 0.25, f"{key}_2": 0.0}]
    (group,) = group_runs([replace(run, looks=looks)])
    table = games_table(group)
    column = table.head.index("teachers' weights")
    assert [row[column] for row in table.rows] == ["0.25"]
    first, second = weights_chart([group], STEPS).curves
    assert (first.label, first.y) == ("pong", (0.5, 0.25))
    assert (second.label, second.y) == ("pong, teacher 2", (1.0, 0.0))


# What is in the figures


def test_a_learning_curve_is_the_tests_with_the_experts_lines(folder):
    chart = learning_curve(groups_of(folder, "seed2"), "boxing", "steps", STEPS)
    student = next(curve for curve in chart.curves if not curve.is_faint)
    assert student.x == pytest.approx([4.0 * (k + 1) for k in range(NUM_TESTS)])
    expected = [student_mean("boxing", 2, 1000 * x, TOTAL) for x in student.x]
    assert student.y == pytest.approx(expected, rel=1e-5)
    assert [(level.label, level.y) for level in chart.levels] == [
        ("expert, mean", pytest.approx(23.4)),
        ("expert, best episode", pytest.approx(33.4)),
    ]
    assert "boxing" in chart.alt


# The paper's table


# The page


class PageReader(HTMLParser):
    """Collects what can be asked of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags = []
        self.words = []
        self._open = []
        self.feed(text)
        assert self._open == [], "a tag is not closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def drawn(folder, tmp_path_factory):
    """The page of the three seeds."""
    out = tmp_path_factory.mktemp("pages") / "seeds.html"
    page = write_report([folder / name for name in SEEDS], out=out, film_steps=0)
    return page, PageReader(page.read_text())


def test_the_page_asks_nothing_of_the_network(drawn):
    page, read = drawn
    addresses = [
        value
        for _, attributes in read.tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "action", "data")
    ]
    assert addresses
    assert all(value.startswith(("data:image/", "#")) for value in addresses)
    assert read.all("script") == read.all("link") == read.all("iframe") == []
    assert "url(" not in page.read_text()
    (policy,) = [m["content"] for m in read.all("meta") if m.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


def test_every_figure_lies_beside_the_page_as_png_and_csv(drawn):
    page, _ = drawn
    files = {path.name for path in figures_folder(page).iterdir()}
    names = {"figure_6", "progress_steps", "progress_time", "steps_per_second"}
    names |= {f"figure_1_{game}{over}" for game in ("pong", "boxing") for over in ("", "_time")}
    for name in names:
        assert {f"{name}.png", f"{name}.csv"} <= files
    assert "table_1.csv" in files


def test_what_a_run_wrote_is_text_and_never_a_tag(folder, tmp_path):
    run = tmp_path / "<b>run"
    shutil.copytree(folder / "empty", run)
    meta = json.loads((run / "meta.json").read_text())
    (run / "meta.json").write_text(json.dumps(meta | {"preset": "<s>smoke", "argv": ["<u>"]}))
    read = PageReader(write_report([run], film_steps=0).read_text())
    assert not {"b", "s", "u"} & {tag for tag, _ in read.tags}
    assert all(text in read.text for text in ("<b>run", "<s>smoke", "<u>"))


def test_no_page_names_the_file_of_a_token(tmp_path):
    run = make_run(
        tmp_path / "run", num_tests=0, num_looks=0, finish=False, with_student=False,
        options=["--dashboard.token-file", "/home/me/secret-token"],
    )  # fmt: skip
    text = write_report([run.path], film_steps=0).read_text()
    assert "secret-token" not in text
    assert "token_file: (not shown)" in text


def test_damaged_records_are_said_at_the_top_of_the_page(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder / "alone", run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"steps": NaN, "seconds": null\n')
        file.write('{"seconds": 300.0, "steps": null, "test/pong/mean": null, "a": NaN}\n')
    (run / "summary.json").write_text("[]")
    meta = json.loads((run / "meta.json").read_text())
    meta["warnings"] = ["the teacher of <b>pong</b> is weak"]
    (run / "meta.json").write_text(json.dumps(meta))
    page = write_report([run], film_steps=0)
    assert page == run / "report.html"
    read = PageReader(page.read_text())
    assert "1 lines of metrics.jsonl are damaged" in read.text
    assert "summary.json is damaged" in read.text
    assert "the teacher of <b>pong</b> is weak" in read.text  # As text, not as a tag.


def test_a_report_replaces_a_report_and_nothing_else(folder, tmp_path):
    out = tmp_path / "page.html"
    write_report([folder / "empty"], out=out, film_steps=0)
    write_report([folder / "empty"], out=out, film_steps=0)
    out.write_text("<html>my thesis</html>")
    with pytest.raises(ValueError, match="is no report of this program"):
        write_report([folder / "empty"], out=out, film_steps=0)
    assert out.read_text() == "<html>my thesis</html>"


# At the end of a run


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"runs": ()}, "no run is named"),
        ({"runs": ("a",), "film_steps": -1}, "film_steps must lie between 0"),
        ({"runs": ("a",), "out": "page.txt"}, "out must end in .html"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        check_ranges(ReportOptions(**options))
