"""How large the page of `foveate report` is, and how long it takes, on made-up evaluations with photo-like pictures.

PYTHONPATH=.:src python scripts/measure_report.py [QUESTIONS]
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.browser import CHROMIUM, browser
from tests.evaluation.folders import make_run, photo

from foveate.evaluation.comparison import write_comparison


def main(questions: int) -> None:
    """Prints a line for one, two and three runs of so many questions."""
    photos = [photo(seed) for seed in range(60)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [folder / str(number) for number in range(3)]
        for number, run in enumerate(runs):
            make_run(run, questions, model=f"model-{number}", skill=0.4 + 0.1 * number, photos=photos)
        for count in (1, 2, 3):
            started = time.perf_counter()
            page = write_comparison(folder / "page.html", runs[:count])
            took = time.perf_counter() - started
            said = f"{count} x {questions:,}: {page.stat().st_size / 1e6:.1f} MB, written in {took:.1f} s"
            if CHROMIUM:
                with browser(folder / f"profile-{count}") as opened:
                    opened.open(page)  # the first time, caches are cold
                    started = time.perf_counter()
                    opened.open(page)
                    said += f", opened in {time.perf_counter() - started:.2f} s"
            print(said)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
