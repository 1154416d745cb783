"""Every rule of source_rules.py is seen red once, so that a green run means something."""

import ast
from pathlib import PurePath

import pytest
from tests.unit import source_rules as rules


@pytest.mark.parametrize(
    ("module", "text", "fragment"),
    [
        (
            "engine/loop.py",
            "import subprocess\n",
            "engine/loop.py:1: imports subprocess; only system/process.py may",
        ),
        ("system/linux.py", "\nfrom sqlite3.dbapi2 import x\n", "system/linux.py:2: imports sqlite3"),
        ("features/qos/compile.py", "import click\n", "imports click"),
        ("store/sqlite.py", "def f():\n    import segno\n", "store/sqlite.py:2: imports segno"),
        ("model/keys.py", "import cryptography\n", "at module level, not lazily"),
        ("model/keys.py", "class A:\n    from cryptography import x\n", "at module level, not lazily"),
    ],
)
def test_a_forbidden_import_is_found(module: str, text: str, fragment: str) -> None:
    (violation,) = rules.wrong_imports(module, ast.parse(text))
    assert fragment in violation


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("features/qos/cli.py", "import click\n"),
        ("model/keys.py", "def f():\n    import cryptography\n"),
        ("model/keys.py", "if TYPE_CHECKING:\n    import cryptography\n"),
    ],
)
def test_an_allowed_import_is_left_alone(module: str, text: str) -> None:
    assert not list(rules.wrong_imports(module, ast.parse(text)))


@pytest.mark.parametrize(
    "handler", ["except:", "except Exception:", "except (KeyError, BaseException) as e:"]
)
def test_a_broad_except_is_found_except_at_the_edges(handler: str) -> None:
    tree = ast.parse(f"try:\n    pass\n{handler}\n    x()\n    raise\n")
    assert [line.split(" ")[0] for line in rules.broad_excepts("host/diff.py", tree)] == ["host/diff.py:3:"]
    assert not list(rules.broad_excepts("cli/main.py", tree))


def test_a_folder_that_is_no_package_is_found() -> None:
    modules = [PurePath("src/a/__init__.py"), PurePath("src/a/b.py"), PurePath("src/a/c/d/__init__.py")]
    assert [line.split(":")[0] for line in rules.folders_without_init(modules)] == ["src/a/c"]


def test_a_long_function_and_a_long_module_are_found() -> None:
    function = "\n\ndef f():\n" + "    pass\n" * rules.MAX_FUNCTION_LINES
    assert [line.split(" ")[0] for line in rules.oversize("a.py", function, ast.parse(function))] == [
        "a.py:3:"
    ]
    module = "x = 1\n" * (rules.MAX_MODULE_LINES + 1)
    assert [line.split(" ")[0] for line in rules.oversize("a.py", module, ast.parse(module))] == ["a.py:1:"]


def test_a_module_without_docstring_is_found() -> None:
    assert list(rules.missing_docstring("a.py", ast.parse("x = 1")))


@pytest.mark.parametrize("line", ["index of py" + "pi.org", "cd /ho" + "me/somebody", "file" + ":///wheels"])
def test_a_trace_of_a_machine_is_found(line: str) -> None:
    assert len(list(rules.machine_traces("a.md", f"fine: /var/lib, ~/notes/x\n{line}\n"))) == 1


@pytest.mark.parametrize("line", ["--pre", "click", "click==8.5.1", "-e ."])
def test_a_foreign_line_in_a_lock_is_found(line: str) -> None:
    assert (
        len(list(rules.foreign_lock_lines("dev.txt", f"# comment\n\nclick==8.5.1 \\\n    # via x\n{line}\n")))
        == 1
    )


def test_a_dead_link_is_found() -> None:
    files = {PurePath("docs/a.md"), PurePath("README.md")}
    links = "[up](../README.md) [here](#x) [out](https://example.org) [folder](../docs)"
    text = f"{links}\n```\n[x](no)\n```\n[dead](b.md)\n"
    assert list(rules.dead_links(PurePath("docs/a.md"), text, files)) == [
        "docs/a.md:5: the link leads nowhere: b.md"
    ]
