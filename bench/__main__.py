"""python -m bench: measure, print the table, and with --write keep it in docs/benchmarks.md."""

import argparse
import datetime
import os
import platform
import sys

from tests.netns.harness import CHECKOUT, Lab

from bench import isolation, measures, product, table

PAGE = """# Benchmarks

Made by `scripts/bench --write`; not to be edited by hand. Every ratio is of medians taken in turn (A B A B)
in one run, as absolute times say more about the machine than about the program. Commands are whole
processes, of an installed, byte-compiled wheel, against an agent that runs.

{date}, {cpus} CPUs, Linux {kernel}, Python {python}, {engine} engine.

{table}
"""


ALL = {**measures.ALL, "isolation": isolation.isolation}


def main() -> int:
    """Exit code 1 if a promise is not kept."""
    arguments = parsed()
    lab = Lab(arguments.engine)
    rows: list[table.Row] = []
    try:
        bench = measures.Bench(lab, product.install(lab.folder), arguments.quick)
        for name in arguments.only or ALL:
            for row in ALL[name](bench):
                rows.append(row)
                print(" · ".join(filter(None, row.cells())), file=sys.stderr, flush=True)
    finally:
        lab.close()
    print("\n".join(table.lines(rows)))
    if arguments.write:
        write(rows, arguments.engine)
    return int(any(row.holds is False for row in rows))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no tunnel of 10,000 peers")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/benchmarks.md")
    parser.add_argument("--engine", choices=["userspace", "kernel"], default="userspace")
    parser.add_argument("only", nargs="*", choices=[[], *ALL], help="measure only these")
    return parser.parse_args()


def write(rows: list[table.Row], engine: str) -> None:
    page = PAGE.format(
        date=datetime.datetime.now(datetime.UTC).date(),
        cpus=os.cpu_count(),
        kernel=platform.release(),
        python=platform.python_version(),
        engine=engine,
        table="\n".join(table.markdown(rows)),
    )
    (CHECKOUT / "docs" / "benchmarks.md").write_text(page)


sys.exit(main())
