"""The README tells the truth: its code runs, its table and commands are those of the project."""

import re
from pathlib import Path

import pytest

import bridge

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(blocks) == 10
    assert (tmp_path / "model.keras").exists()
    vectors = names["vectors"]
    assert isinstance(vectors, list)
    assert [values.shape for values in vectors] == [(3, 128), (1, 128)]


def test_pip_lines_are_those_of_make_setup() -> None:
    lines = re.findall(r"^pip install (.*)$", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(lines) == 2
    for line in lines:
        assert f"pip install --quiet --disable-pip-version-check {line}\n" in makefile


def test_table_lists_every_public_name() -> None:
    table = README.partition("## Public names")[2].partition("## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(bridge.__all__)


def test_files_it_links_to_exist() -> None:
    pages = ("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
    for page in pages:
        text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            file, _, section = target.partition("#")
            linked = (ROOT / page).parent / file if file else ROOT / page
            assert linked.exists(), f"{page}: {target}"
            assert not section or section in sections_of(linked), f"{page}: {target}"


def sections_of(page: Path) -> list[str]:
    """The anchors of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_changelog_has_this_version() -> None:
    assert f"\n## {bridge.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
