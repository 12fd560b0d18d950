"""What `from photoproof import ...` offers: what the README documents, each with a docstring, and nothing else."""

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import photoproof

CLIENT = Path(__file__).parents[3] / "serving" / "client"
SOURCE = CLIENT / "src" / "photoproof"
CLASSES = [name for name in photoproof.__all__ if inspect.isclass(getattr(photoproof, name))]
ALIASES = [name for name in photoproof.__all__ if name not in CLASSES]


def documented_names() -> list[str]:
    """The names in the first column of the table under "What the package exports"."""
    section = (CLIENT / "README.md").read_text().partition("## What the package exports")[2].partition("\n## ")[0]
    return [name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]


def documented_aliases(module: Path) -> set[str]:
    """The annotated names of a module that are followed by a docstring."""
    body = ast.parse(module.read_text()).body
    return {
        statement.target.id
        for statement, following in pairwise(body)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    }


def test_all_is_what_the_readme_documents():
    assert sorted(documented_names()) == sorted(photoproof.__all__)


def test_all_is_sorted_and_everything_in_it_is_there():
    assert photoproof.__all__ == sorted(photoproof.__all__)
    assert all(hasattr(photoproof, name) for name in photoproof.__all__)


def test_what_is_not_exported_is_a_module_or_starts_with_an_underscore():
    others = {name: value for name, value in vars(photoproof).items() if name not in photoproof.__all__}
    public = {name for name, value in others.items() if not (name.startswith("_") or isinstance(value, ModuleType))}
    assert public == set()


@pytest.mark.parametrize("name", CLASSES)
def test_an_exported_class_and_its_public_methods_have_docstrings(name):
    exported = getattr(photoproof, name)
    assert vars(exported)["__doc__"]
    methods = {key: value for key, value in vars(exported).items() if inspect.isfunction(value)}
    assert [key for key, value in methods.items() if not key.startswith("_") and not value.__doc__] == []


@pytest.mark.parametrize("name", ALIASES)
def test_an_exported_type_has_a_docstring(name):
    assert any(name in documented_aliases(module) for module in SOURCE.rglob("*.py"))


def test_both_verifiers_have_the_same_methods_with_the_same_parameters():
    def methods(kind: type) -> dict[str, list[str]]:
        functions = {name: value for name, value in vars(kind).items() if inspect.isfunction(value)}
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in functions.items()
            if not name.startswith("_") or name == "__init__"
        }

    assert methods(photoproof.Verifier) == methods(photoproof.AsyncVerifier)


@pytest.mark.parametrize("page", ["serving/client/README.md", "docs/callers.md", "README.md", "docs/auditors.md"])
def test_documents_import_from_the_package_itself(page):
    text = (CLIENT.parents[1] / page).read_text()
    modules = re.findall(r"^\s*(?:from|import) (photoproof(?:\.\w+)*)", text, re.MULTILINE)
    names = re.findall(r"^\s*from photoproof import (.+)$", text, re.MULTILINE)
    assert set(modules) <= {"photoproof"}
    assert {name.strip() for line in names for name in line.split(",")} <= set(photoproof.__all__)
