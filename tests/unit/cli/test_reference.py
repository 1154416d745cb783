"""The generated page says what the program says."""

from tests.unit.cli import reference


def test_the_page_of_commands_is_current() -> None:
    written = reference.PAGE.read_text()
    assert written == reference.page(), "run: python -m tests.unit.cli.reference"
