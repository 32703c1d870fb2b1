"""Links between the pages, and from them to files, lead somewhere; the commands in them can be typed."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from foveate.cli import app
from foveate.recipes import load_recipe, recipe_names

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_of_a_page(page):
    broken = []
    for written in (first or second for first, second in _LINK.findall(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", written):
            continue
        name, _, anchor = written.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(written)
    assert broken == []


def commands(page):
    """Every indented command line of a page, as a shell would split it."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"^    foveate (.*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_of_a_page_are_understood(page):
    for words in commands(page):
        command, context = typer.main.get_command(app), None
        while hasattr(command, "commands"):
            context = command.make_context(words[0], words[1:2], parent=context, resilient_parsing=True)
            command, words = command.commands[words[0]], words[1:]
        parsed = command.make_context("foveate", list(words), parent=context).params
        if parsed.get("recipe"):
            load_recipe(parsed["recipe"], parsed.get("settings") or [])


def described(command, name):
    """Each command under a name, with the options that it takes."""
    for inner, one in getattr(command, "commands", {}).items():
        yield from described(one, f"{name} {inner}")
    yield name, {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


def test_the_reference_has_every_command_with_its_options():
    sections = re.split(r"^##+ `(.*)`$", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = {"foveate": sections[0], **dict(zip(sections[1::2], sections[2::2], strict=True))}
    there = dict(described(typer.main.get_command(app), "foveate"))
    assert told.keys() == there.keys(), "make docs"
    for name, options in there.items():
        assert options <= set(re.findall(r"--[\w-]+", told[name])), f"{name}: make docs"


def test_the_readme_has_a_command_for_every_recipe():
    trained = {words[1] for words in commands(ROOT / "README.md") if words[0] == "train"}
    assert trained == set(recipe_names())


def test_the_readme_says_how_much_a_recipe_samples():
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"\| `([\w-]+)` \| ([\d,]+) (?:episodes )?of", table)
    assert len(said) == 5
    for name, episodes in said:
        recipe = load_recipe(name)
        step = recipe.optimisation.questions_per_step * recipe.rollout.group_size
        assert recipe.optimisation.steps * step == int(episodes.replace(",", "")), name
