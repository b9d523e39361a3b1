"""What the build of the documentation cannot see: its list for programs, the number of its pages, its programs."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.name != "index.md" or page.parent != DOCS)
LIST = (DOCS / "llms.txt").read_text("utf-8")


def title(page: Path) -> str:
    """Return the first heading of a page, or of the file that it includes."""
    text = page.read_text("utf-8")
    if included := re.search(r"^```\{include\} (\S+)$", text, flags=re.MULTILINE):
        text = (page.parent / included[1]).read_text("utf-8")
    return re.search(r"^# (.+)$", text, flags=re.MULTILINE)[1]  # type: ignore[index]


def test_the_list_for_programs_has_every_page_once_under_its_title() -> None:
    listed = dict(re.findall(r"^- \[(.+?)\]\((.+?)\): .+\.$", LIST, flags=re.MULTILINE))
    assert listed == {title(page): page.relative_to(DOCS).as_posix() for page in PAGES}
    assert LIST.count(".md)") == len(PAGES)


def test_at_most_45_pages_are_run_when_they_are_built() -> None:
    assert 20 <= sum("{code-cell}" in page.read_text("utf-8") for page in PAGES) <= 45


def test_pages_whose_output_depends_on_the_machine_are_not_run() -> None:
    for name in ("performance.md", "compared.md", "guides/ray.md", "guides/many_processes.md"):
        assert "{code-cell}" not in (DOCS / name).read_text("utf-8")


def test_the_program_that_the_list_shows_is_one_that_trains(tmp_path: Path) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", LIST, flags=re.MULTILINE | re.DOTALL)
    mine = (
        "from lucid_train import nn, optims\n"
        "model = nn.Linear(2, 1)\n"
        "optimizer = optims.SGD(model.parameters(), lr=0.1)\n"
        "step = lambda batch: optimizer.step() or 1 / batch\n"
        "loader, evaluate = range(1, 5), lambda: 0.5\n"
    )
    command = [sys.executable, "-c", mine + program + "print(len(history), history.reason)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("4 val_loss has not improved for 3 epochs (best 0.5 in epoch 1)\n")
