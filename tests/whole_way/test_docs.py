"""What documents and docstrings say of the repository is so: paths, modules and documents that they name are there."""

import ast
import functools
import io
import os
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
TOPS = "pipelines|training|serving|benchmarks|mlflow|tests|docs"
PATH = re.compile(rf"(?<![\w/.$}}-])(?:{TOPS})/[\w./-]*[\w/]")
"""Not what lies below another folder, such as .photoproof/mlflow/mlflow.db."""
MODULE = re.compile(r"(?<![\w/.-])(?:pipelines|training|serving|benchmarks)(?:\.[A-Za-z_]\w*)+")
DOCUMENT = re.compile(r"[\w-]+\.md\b")
GENERATED = {"decision.md", "serving.md", "table.md"}
"""Documents that a command writes below reports/."""
LOOK_LIKE_MODULES = {"serving.json", "serving.md", "benchmarks.md"}
"""Files."""


def tracked() -> list[str]:
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split()


FILES = [name for name in tracked() if (CHECKOUT / name).is_file()]
DOCUMENTS = [name for name in FILES if name.endswith(".md")]
SOURCES = [name for name in FILES if name.endswith(".py") and not name.endswith("_pb2.py")]


def prose(source: str) -> Iterator[str]:
    """The comments of a Python source, and the strings that stand by themselves: docstrings."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


@functools.cache
def text_of(name: str) -> str:
    text = (CHECKOUT / name).read_text()
    return "\n".join(prose(text)) if name.endswith(".py") else text


def exists(path: str) -> bool:
    """Whether the checkout has the path; a decision may be named by its number alone."""
    return (CHECKOUT / path).exists() or any(name.startswith(f"{path}-") for name in FILES)


def is_named(module: str) -> bool:
    """Whether the words are a module of ours, or what a module has at its top."""
    words = module.split(".")
    for count in range(len(words), 1, -1):
        place = CHECKOUT.joinpath(*words[:count])
        source = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        if source.is_file():
            return all(re.search(rf"\b{word}\b", source.read_text()) for word in words[count:])
    return False


def wanting(names: list[str], missing: Callable[[str], set[str]]) -> dict[str, list[str]]:
    """What each file names that is not there."""
    lists = {name: sorted(missing(name)) for name in names}
    return {name: words for name, words in lists.items() if words}


def is_placeholder(word: str) -> bool:
    """A word that stands for others, such as STAGE in training.STAGE."""
    return re.search(r"[A-Z]{3}", word) is not None


def test_every_path_that_is_named_exists() -> None:
    def missing(name: str) -> set[str]:
        return {path for path in PATH.findall(text_of(name)) if not is_placeholder(path) and not exists(path)}

    assert wanting(DOCUMENTS + SOURCES, missing) == {}


def test_every_module_that_is_named_exists() -> None:
    def missing(name: str) -> set[str]:
        modules = set(MODULE.findall(text_of(name))) - LOOK_LIKE_MODULES
        return {module for module in modules if not is_placeholder(module) and not is_named(module)}

    assert wanting(DOCUMENTS + SOURCES, missing) == {}


def test_every_link_leads_to_a_file() -> None:
    def missing(name: str) -> set[str]:
        targets = re.findall(r"\]\(([^)#\s]+)", (CHECKOUT / name).read_text())
        folder = (CHECKOUT / name).parent
        return {target for target in targets if "://" not in target and not (folder / target).exists()}

    assert wanting(DOCUMENTS, missing) == {}


def test_no_document_is_cited_that_is_not_in_the_repository() -> None:
    known = {Path(document).name for document in DOCUMENTS} | GENERATED

    def missing(name: str) -> set[str]:
        text = text_of(name)
        return (set(DOCUMENT.findall(text)) - known) | set(re.findall(r"\b(?:DESIGN|HOUSE)\b", text))

    assert wanting(DOCUMENTS + SOURCES, missing) == {}


@pytest.mark.parametrize("part", ["pipelines", "training"])
def test_every_room_stands_in_the_map(part: str) -> None:
    rooms = {path.parent.name for path in (CHECKOUT / part).glob("*/__init__.py")}
    assert len(rooms) > 5
    text = (CHECKOUT / "docs" / "architecture.md").read_text()
    assert sorted(room for room in rooms if f"`{part}/{room}/`" not in text) == []


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in (CHECKOUT / "docs" / "decisions").glob("*.md")]
    assert sorted(set(numbers)) == sorted(numbers)


def test_make_by_itself_lists_every_target_and_needs_no_environment(tmp_path: Path) -> None:
    makefile = CHECKOUT / "Makefile"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # `make test` is one
    done = subprocess.run(
        ["make", "-f", makefile], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    targets = re.findall(r"^\.PHONY: (.*)$", makefile.read_text(), re.MULTILINE)[0].split()
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets
    assert all(re.match(r"make \w+ +\S", line) for line in done.stdout.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_hooks_are_tools_of_the_environment_so_that_nothing_is_downloaded() -> None:
    repositories = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    linted = (CHECKOUT / "Makefile").read_text()
    for hook in hooks:
        tool = hook["entry"].split()[0]
        assert tool.startswith(".venv/bin/") and tool.replace(".venv/bin", "@$(BIN)") in linted


def test_the_client_carries_the_licence_of_the_repository() -> None:
    licence = (CHECKOUT / "LICENSE").read_text()
    assert "Apache License\n" in licence
    assert (CHECKOUT / "serving" / "client" / "LICENSE").read_text() == licence
    for folder in (".", "serving/client"):
        assert (
            'license = "Apache-2.0"\nlicense-files = ["LICENSE"]\n'
            in (CHECKOUT / folder / "pyproject.toml").read_text()
        )
