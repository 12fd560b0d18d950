# The application: pipelines, training and serving, with the versions of requirements.lock.
#
#   docker build --build-arg UID=$(id -u) --tag photoproof:0.1.0 .
#   docker run --rm --volume "$PWD:$PWD" --workdir "$PWD" photoproof:0.1.0 retrain
#
# A workspace is a git clone, mounted at the path that it has outside: models.config holds absolute paths. UID is the
# user who owns it. Stages run the clone's own training/, flows and commands those of the image.
#
# It has not been built: the machine where it was made has no Docker engine. tests/whole_way/test_docker.py checks what
# can be checked without one.
FROM python:3.12-slim-bookworm

RUN apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/* \
 && git config --system --add safe.directory '*'

WORKDIR /opt/photoproof

# One lock for everything (docs/decisions/0001): what tests and lint need is in it too.
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes --no-deps -r requirements.lock

# From here on no package is fetched; editable, as in .venv.
COPY LICENSE README.md pyproject.toml ./
COPY serving ./serving
COPY training ./training
COPY pipelines ./pipelines
RUN pip install --no-cache-dir --no-index --no-deps --no-build-isolation -e serving/client -e . \
 && python -m compileall -q pipelines training serving

ARG UID=1000
RUN useradd --uid "$UID" --create-home photoproof
USER photoproof
WORKDIR /workspace
ENTRYPOINT ["photoproof"]
CMD ["--help"]
