import itertools
import json
import re
import subprocess
from html import unescape
from urllib.parse import urlencode

import pytest
from tests.browser import CHROMIUM, browser
from tests.evaluation.folders import make_run, photo

from foveate.evaluation.comparison import MOST_RUNS, write_comparison
from foveate.evaluation.folder import EvaluationFolderError
from foveate.evaluation.looking import TITLES
from foveate.evaluation.official import Figure, Official
from foveate.evaluation.wording import points
from foveate.evaluations import evaluate_model, probe_at_moments
from foveate.evaluations.asking import official_json
from foveate.recipes import load_recipe

HOSTILE = (
    '</script><script>window.hurt = 1</script><img src="x" onerror="window.hurt = 1"><!--<script>'
    "\u2028\u2029\x00\x1b'\"{{ 7 * 7 }}&lt;</pre></details>HALF"
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A browser with an empty page."""
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page
        assert page.complaints == []


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The rows of two runs of which the second was asked other questions too, and their page."""
    folder = tmp_path_factory.mktemp("compared")
    first = make_run(folder / "a", 60, model="org/base", skill=0.4)
    second = make_run(folder / "b", 60, model="runs/hart", skill=0.7, first=8)
    return [first, second], write_comparison(folder / "new" / "page.html", [folder / "a", folder / "b"])


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)))


def asked(rows, run, answer, place, stop, category, text):
    """The ids that a filter lets through, told from the rows alone."""
    ids = list(dict.fromkeys(row.id for one in rows for row in one))
    by_id = [{row.id: row for row in one} for one in rows]

    def state(attempt):
        return "right" if attempt.right else "wrong"

    def found(attempt):
        return {None: "unknown", 1: "right", 0: "wrong"}[attempt.grounding.iog30]

    def fits(one):
        attempt = one.attempts[0]
        return (
            answer in (None, "differ", state(attempt))
            and place in (None, found(attempt))
            and stop in (None, attempt.stop)
        )

    kept = []
    for id in ids:
        answers = [one.get(id) for one in by_id]
        there = [row for row in answers if row]
        named = [row for row in (there if run is None else [answers[run - 1]]) if row]
        if not any(map(fits, named)) or (category is not None and (there[0].category or "") != category):
            continue
        if answer == "differ" and not {"right", "wrong"} <= {state(row.attempts[0]) for row in there}:
            continue
        words = [there[0].text, *(there[0].choices or {}).values()]
        words += [said for row in there for said in row.attempts[0].texts]
        if text is None or any(text.lower() in one.lower() for one in words):
            kept.append(id)
    return kept


@needs_browser
def test_every_filter_shows_the_questions_that_the_rows_say(opened, compared):
    rows, page = compared
    filters = list(
        itertools.product(
            (None, 1, 2),
            (None, "right", "wrong", "differ"),
            (None, "right", "wrong", "unknown"),
            (None, "answered", "unparsed", "no_region"),
            (None, "Remote sensing"),
            (None, "GOLD sign"),
        )
    )
    filters += [(None, None, None, None, "", None), (None, "right", None, None, None, "a ferry")]
    names = ("run", "answer", "place", "stop", "category", "text")
    hashes = [urlencode({n: v for n, v in zip(names, one, strict=True) if v is not None}) or "all=1" for one in filters]
    opened.open(page, "#all=1")
    shown = opened.evaluate(
        f"""(async () => {{
          const found = [];
          for (const hash of {json.dumps(hashes)}) {{
            if (location.hash !== "#" + hash) {{
              const changed = new Promise((done) => addEventListener("hashchange", done, {{ once: true }}));
              location.hash = hash;
              await changed;
            }}
            const ids = [...document.querySelectorAll(".card")].map((card) => data.questions[card.dataset.index].id);
            found.push([ids, Number(document.getElementById("shown").dataset.shown)]);
          }}
          return found;
        }})()"""
    )
    sizes = set()
    for one, (ids, said) in zip(filters, shown, strict=True):
        assert ids == asked(rows, *one), one
        assert said == len(ids)
        sizes.add(len(ids))
    assert {0, 68} <= sizes
    assert len(sizes) > 20


@needs_browser
def test_a_link_opens_a_filtered_view_without_anybodys_help(compared, tmp_path):
    rows, page = compared
    dumped = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=3000",
         f"--user-data-dir={tmp_path}", page.resolve().as_uri() + "#answer=right&place=wrong"],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    wanted = asked(rows, None, "right", "wrong", None, None, None)
    assert 0 < len(wanted) < 68
    assert len(re.findall(r'<article class="card"', dumped)) == len(wanted)
    assert f'data-shown="{len(wanted)}"' in dumped


@needs_browser
def test_the_controls_say_and_set_what_is_shown(opened, compared):
    rows, page = compared
    opened.open(page, "#" + urlencode({"answer": "wrong", "category": "Remote sensing"}))
    picked = "[...document.querySelectorAll('[data-filter]')].map((one) => one.value).join('|')"
    assert opened.evaluate(picked) == "|=wrong|||=Remote sensing|"
    opened.evaluate(
        """(async () => {
          const run = document.querySelector('[data-filter=run]');
          run.value = '=2';
          run.dispatchEvent(new Event('input', { bubbles: true }));
          await new Promise((done) => setTimeout(done, 50));
        })()"""
    )
    assert opened.evaluate("location.hash") == "#run=2&answer=wrong&category=Remote+sensing"
    wanted = asked(rows, 2, "wrong", None, None, "Remote sensing", None)
    assert opened.evaluate("document.querySelectorAll('.card').length") == len(wanted)
    opened.evaluate("document.querySelector('[type=reset]').click(); new Promise((done) => setTimeout(done, 50))")
    assert opened.evaluate("document.querySelectorAll('.card').length") == 68


@needs_browser
def test_a_card_shows_question_boxes_crops_and_replies(opened, compared):
    rows, page = compared
    first, second = ({row.id: row for row in one}["q00012"] for one in rows)
    opened.open(page, "#id=q00012")
    card = opened.evaluate(
        """(async () => {
          const card = document.querySelector('.card');
          for (let i = 0; i < 100 && !card.firstChild; i++) await new Promise((done) => setTimeout(done, 20));
          const count = (what) => card.querySelectorAll(what).length;
          return { text: card.textContent, cards: cards.children.length, true: count('.box.true'),
            boxes: [count('.box.run-0'), count('.box.run-1')], crops: count('.crops img'),
            picture: count('.frame img') };
        })()"""
    )
    boxes = [len(row.attempts[0].boxes) for row in (first, second)]
    assert (card["cards"], card["picture"], card["true"]) == (1, 1, len(first.regions))
    assert card["boxes"] == boxes
    assert card["crops"] == sum(boxes)
    for words in (
        first.text,
        *first.attempts[0].texts,
        *second.attempts[0].texts,
        *first.choices.values(),
    ):
        assert words in card["text"]
    opened.evaluate("document.querySelector('[value=hide-run-1]').click()")
    assert opened.evaluate("getComputedStyle(document.querySelector('.frame .run-1')).display") == "none"


@needs_browser
def test_hostile_texts_are_shown_and_do_not_run(opened, tmp_path):
    make_run(tmp_path / "a", 20, hostile=HOSTILE, model=f"org{HOSTILE}", pictures=False)
    make_run(
        tmp_path / "b",
        20,
        hostile=HOSTILE,
        model="b",
        **official_json((HOSTILE, Official({HOSTILE: Figure(0.5, 20)}))),
    )
    for file in (tmp_path / name / kind for name in "ab" for kind in ("scores.json", "questions.jsonl")):
        file.write_bytes(file.read_bytes().replace(b"HALF", rb"\ud800"))  # half a pair, which others may write
    page = write_comparison(tmp_path / "page.html", [tmp_path / "a", tmp_path / "b"], title=HOSTILE + "\ud800")
    opened.open(page, "#answer=right")
    found = opened.evaluate(
        """(async () => {
          for (const card of cards.children) fill(card);
          await new Promise((done) => setTimeout(done, 100));
          return { hurt: window.hurt, images: document.querySelectorAll('img[src=x]').length,
            shown: cards.children.length, text: cards.firstChild.textContent,
            scripts: document.querySelectorAll('script:not([type])').length };
        })()"""
    )
    assert (found.get("hurt"), found["images"], found["scripts"]) == (None, 0, 1)
    assert found["shown"] > 0
    assert "</script><script>window.hurt = 1</script>" in found["text"]
    assert "49" not in text_of(page.read_text("utf-8"))[: len(HOSTILE) * 3]


@needs_browser
def test_two_thousand_questions_open_as_one_small_page(opened, tmp_path):
    photos = [photo(seed) for seed in range(30)]
    for name, skill in (("a", 0.4), ("b", 0.6)):
        make_run(tmp_path / name, 2000, model=name, skill=skill, photos=photos, probed=False)
    page = write_comparison(tmp_path / "page.html", [tmp_path / "a", tmp_path / "b"])
    assert 5e6 < page.stat().st_size < 15e6
    opened.open(page)
    cards, filled = opened.evaluate(
        "[document.querySelectorAll('.card').length, document.querySelectorAll('.card:not(:empty)').length]"
    )
    assert cards == 2000
    assert filled < 20  # only what is near
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    printed = opened.evaluate("document.querySelectorAll('.card:not(:empty)').length")
    assert 20 < printed < 60
    assert opened.evaluate("cards.dataset.printed") == f"All 2,000 questions, of which {printed} are printed here."


def test_the_page_needs_nothing_else_and_says_the_figures(compared):
    rows, page = compared
    html = page.read_text("utf-8")
    assert not re.search(r"(?:src|href)=[\"']?(?!#|data:)[^\"'>]", html.split("<script")[0])
    assert "http" not in re.sub(r"Content-Security-Policy|http-equiv", "", html.split("<script")[0])
    said = text_of(html)
    accuracy = [attempt.right for row in rows[0] for attempt in row.attempts]
    assert f"{100 * sum(accuracy) / len(accuracy):.1f} %" in said
    assert "The runs were asked different questions (base: 60, hart: 60; 52 in common)" in said
    assert "over 52 questions" in said
    for heading in (
        "Differences over the same questions",
        "Answers and places",
        "By category",
        "Does it use what it looks at",
    ):
        assert heading in said
    assert "Give a box." in said
    assert json.loads((page.parent.parent / "a" / "scores.json").read_text())["setup"]["data_sha256"] in said


def test_what_was_not_measured_has_no_place_on_the_page(tmp_path):
    make_run(tmp_path / "a", 8, regions=False, pictures=False, probed=False)
    said = text_of(write_comparison(tmp_path / "page.html", [tmp_path / "a"]).read_text("utf-8"))
    for heading in (
        "Differences over",
        "Answers and places",
        "How strictly",
        "Does it use",
        "against cost",
        "Take care",
    ):
        assert heading not in said
    assert "No pictures were kept" in said


def test_official_figures_stand_side_by_side(tmp_path):
    for name, figures in (
        ("a", {"overall": Figure(0.423, 1919, (0.4, 0.445)), "OCR": Figure(0.5, 250)}),
        ("b", {"overall": Figure(0.624, 1919), "precision": Figure(None, 250)}),
    ):
        reported = official_json(("MME-RealWorld", Official(figures)))
        make_run(tmp_path / name, 4, model=name, pictures=False, **reported)
    said = text_of(write_comparison(tmp_path / "page.html", [tmp_path / "a", tmp_path / "b"]).read_text("utf-8"))
    assert "Official figures: MME-RealWorld" in said
    assert "overall 42.3 % (40.0\u201344.5) 62.4 %" in said
    assert "OCR 50.0 % \u2013" in said
    assert "precision \u2013 \u2013" in said


def test_the_page_says_which_model_located_and_which_answered(tmp_path):
    other = {"answerer": {"model": "org/large", "identity": "large png"}}
    make_run(tmp_path / "a", 4, model="org/small", pictures=False)
    make_run(tmp_path / "b", 4, model="org/small", pictures=False, **other)
    said = text_of(write_comparison(tmp_path / "page.html", [tmp_path / "a", tmp_path / "b"]).read_text("utf-8"))
    assert "small and small + large" in said
    assert "located by org/small" in said
    assert "answered by org/large" in said
    assert "locating model org/small answering model org/large" in said
    make_run(tmp_path / "c", 4, model="org/small", pictures=False, **other)
    said = text_of(write_comparison(tmp_path / "page.html", [tmp_path / "b", tmp_path / "c"]).read_text("utf-8"))
    assert "b and c" in said
    assert said.count("answered by org/large") == 2


def change_of(name, probe):
    return "" if name == "unchanged" else f" ({points(probe['change'])})"


def test_evaluations_are_drawn_as_they_were_written(tmp_path):
    """From the first question to the page: what `foveate eval --probes` and `foveate probe` leave is what is read."""
    demo = load_recipe("demo")
    evaluate_model(demo, "tiny", "scenes", limit=6, out=tmp_path / "eval", probed=True)
    probe_at_moments(demo, "tiny", "scenes", limit=6, out=tmp_path / "probe")
    folders = [tmp_path / "eval", tmp_path / "probe"]
    html = write_comparison(tmp_path / "page.html", folders).read_text("utf-8")
    said = unescape(text_of(html))
    written = [json.loads((folder / "scores.json").read_text()) for folder in folders]
    assert "Take care" not in said
    for name, title in (("accuracy", "Right answers share of attempts"), ("iog30", "what has to be seen")):
        shown = []
        for scores in written:
            low, high = (100 * end for end in scores["summary"]["intervals"][name])
            shown.append(f"{100 * scores['summary'][name]:.1f} % {low:.1f}\u2013{high:.1f}")
        assert f"{title} {' '.join(shown)}" in said
    probes = 0
    for name in {name for scores in written for name in scores["probes"]}:
        found = [(run, scores["probes"].get(name)) for run, scores in enumerate(written, start=1)]
        bars = [
            (one["questions"], f"{100 * one['accuracy']:.1f} %{change_of(name, one)} {run}")
            for run, one in found
            if one and one["questions"]
        ]
        if bars:
            counts = sorted({str(count) for count, _ in bars})
            probes += 1
            assert f"{TITLES[name]} {' to '.join(counts)} questions {' '.join(bar for _, bar in bars)}" in said
    assert probes > 5
    verdict = written[1]["look_dependence"]["verdict"]
    assert f"{verdict['title']} {verdict['because']}" in said
    square = written[1]["gain_harm"]
    assert f"of {square['questions']} questions right without wrong without right with it" in said
    for name, note in (("gain", ": gained"), ("harm", ": harmed")):
        assert f"{100 * square[name] / square['questions']:.1f} % {square[name]}{note}" in said
    pictures = [one for chunk in re.findall(r'id="pictures-\d+">(.*?)</script>', html) for one in json.loads(chunk)]
    assert len(pictures) == 6
    assert all(picture and len(crops) == 2 for picture, crops in pictures)
    assert any(crops[0] for _, crops in pictures)


def test_a_report_is_of_a_few_runs(tmp_path):
    for count in (0, MOST_RUNS + 1):
        with pytest.raises(EvaluationFolderError, match=f"1 to {MOST_RUNS}"):
            write_comparison(tmp_path / "page.html", [tmp_path] * count)
