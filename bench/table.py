"""Rows of figures, as lines for a terminal and as a page of the documentation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HEAD = ("work", "ours", "against", "theirs", "ratio", "reach", "")


@dataclass(frozen=True)
class Row:
    """One measurement: ours and, where there is one, the peer's in the same unit.

    reach is the ratio that is promised, most the absolute figure that is; only one of them is given.
    """

    work: str
    against: str
    reach: float | None
    ours: float
    theirs: float | None
    unit: str
    most: float | None = None
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None

    @property
    def holds(self) -> bool | None:
        """Whether the promise is kept; None where nothing is promised."""
        if self.most is not None:
            return self.ours < self.most
        if self.reach is None or self.ratio is None:
            return None
        return self.ratio >= self.reach if self.more_is_better else self.ratio <= self.reach

    def cells(self) -> tuple[str, ...]:
        sign = "≥" if self.more_is_better else "≤"
        return (
            self.work,
            f"{figure(self.ours)} {self.unit}",
            self.against,
            f"{figure(self.theirs)} {self.unit}" if self.theirs else "",
            f"{self.ratio:.2f}×" if self.ratio else "",
            f"{sign} {self.reach:g}×" if self.reach else "",
            {True: "yes", False: "NO", None: ""}[self.holds],
        )


def figure(value: float) -> str:
    """Three digits, whatever the size."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Aligned columns."""
    table = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """The same as a table of Markdown."""
    yield f"| {' | '.join(HEAD[:-1])} | kept |"
    yield f"|{'---|' * len(HEAD)}"
    for row in rows:
        yield f"| {' | '.join(row.cells())} |"
