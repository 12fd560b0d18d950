"""The application's image and its services, as far as a machine without Docker can tell."""

import re
import shlex
import subprocess
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
SERVICES = CHECKOUT / "serving" / "tensorflow_serving"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (CHECKOUT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    words = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(word[0], word[1]) for word in words]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def test_the_base_image_is_pinned_to_a_python_that_the_lock_is_for() -> None:
    (base,) = of("FROM")
    version = re.fullmatch(r"python:3\.(\d+)-slim-\w+", base)
    assert version and 11 <= int(version[1]) <= 13


def test_everything_that_is_copied_is_in_the_repository_and_reaches_the_build() -> None:
    sources = [source for copy in of("COPY") for source in shlex.split(copy)[:-1]]
    assert {"requirements.lock", "pyproject.toml", "pipelines", "training", "serving"} <= set(sources)
    tracked = subprocess.run(["git", "ls-files", "--", *sources], cwd=CHECKOUT, capture_output=True, text=True)
    assert all((CHECKOUT / source).exists() for source in sources)
    assert {name.split("/")[0] for name in tracked.stdout.splitlines()} == set(sources)
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"  # nothing but what is named after it: no data, no workspace, no secret
    assert {line[1:] for line in ignored if line.startswith("!")} == set(sources)
    assert "**/.env" in ignored


def test_packages_are_those_of_the_lock_by_their_hashes_and_in_a_layer_before_the_code() -> None:
    names = [name for name, _ in instructions()]
    installs = [
        command.strip() for run in of("RUN") for command in run.split("&&") if re.search(r"\bpip3? install\b", command)
    ]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0] and "-r requirements.lock" in installs[0]
    assert "--no-index" in installs[1] and "--no-deps" in installs[1]  # local folders, which have no hash
    assert of("COPY")[0] == "requirements.lock ./"
    assert names.index("COPY") < names.index("RUN", names.index("COPY")) < names.index("COPY", names.index("COPY") + 1)


def test_it_runs_as_a_user_of_its_own_and_holds_no_secret() -> None:
    assert of("USER") == ["photoproof"]
    names = [name for name, _ in instructions()]
    assert "RUN" not in names[names.index("USER") :]
    assert any("useradd" in run and run.rstrip().endswith("photoproof") for run in of("RUN"))
    assert not re.search(r"password|secret|token|key", "\n".join(of("ENV") + of("ARG")), re.IGNORECASE)


def test_git_is_in_the_image_since_a_workspace_is_a_clone() -> None:
    assert any(re.search(r"apt-get install .*\bgit\b", run) for run in of("RUN"))


def test_the_applications_services_run_the_image_beside_the_servers() -> None:
    application = yaml.safe_load((SERVICES / "application.yaml").read_text())["services"]
    servers = yaml.safe_load((SERVICES / "compose.yaml").read_text())["services"]
    assert set(application) == {"watch", "flows"}
    assert application["watch"]["command"] == ["deploy", "--watch"]
    assert application["flows"]["command"] == ["flows"]
    for service in application.values():
        assert service["image"] == "photoproof:0.1.0"
        assert (SERVICES / service["build"]["context"] / "Dockerfile").resolve() == CHECKOUT / "Dockerfile"
        assert set(service["build"]["args"]) == set(of("ARG")[0].split("=")[:1])
        assert "ports" not in service
        assert set(service["depends_on"]) <= set(servers)
        hosts = {
            re.sub(r"^\w+://(?:[^@]*@)?", "", url).split(":")[0]
            for url in service["environment"].values()
            if "://" in url
        }
        assert hosts == {"postgres", "store", "mlflow", "prefect", "model-server"} & set(servers)


def test_the_services_take_secrets_from_the_environment() -> None:
    text = (SERVICES / "application.yaml").read_text()
    values = re.findall(r"^ +\w*(?:PASSWORD|SECRET|KEY)\w*: (.*)$", text, re.MULTILINE)
    assert len(values) == 3
    assert all(re.match(r"\$\{\w+", value) for value in values)
