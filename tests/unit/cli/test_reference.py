"""The generated pages say what the program says."""

import re

from tests.unit.cli import manpage, reference


def test_the_page_of_commands_is_current() -> None:
    written = reference.PAGE.read_text()
    assert written == reference.page(), "run: python -m tests.unit.cli.reference"


def test_the_man_page_is_current() -> None:
    written = manpage.PAGE.read_text()
    assert written == manpage.page(), "run: python -m tests.unit.cli.manpage"


def test_the_man_page_is_one_that_troff_takes_as_it_is_meant() -> None:
    """Every request is one of man(7), and no hyphen of an option is one that copies as a dash."""
    for line in manpage.page().splitlines()[1:]:
        if line.startswith("."):
            assert re.match(r"\.(TH|SH|SS|PP|TP|BR?|RS|RE|nf|fi)\b", line), line
        assert not re.search(r"(?<!\\)--", line), line
