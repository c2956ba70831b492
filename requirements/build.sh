#!/usr/bin/env bash
# Build the wheel into dist/ and its twin that ends in .zip; prints the path of the zip.
#
# Why the twin: Spark ships --py-files to its Python workers only when they end in .zip, .egg or .jar; with x.whl the
# driver imports the package and the workers do not. Nothing is built when no source has changed. Needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p dist

exec 9<"${BASH_SOURCE[0]}" # two jobs started at once build one after the other
if command -v flock >/dev/null; then flock 9; fi

wanted=$(find lib schemas conf jobs pyproject.toml README.md LICENSE requirements/build.sh \
  -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 cksum)
zip=$(ls dist/utilityflow-*.zip 2>/dev/null || true) # more than one means an old version lies about: build anew
if [[ ! -f $zip || ! -f dist/.sources || $(<dist/.sources) != "$wanted" ]]; then
  beside=$(mktemp -d dist/.building-XXXXXX)
  trap 'rm -rf "$beside"' EXIT
  PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m hatchling build --target wheel --directory "$beside" >"$beside/log" 2>&1 || {
    cat "$beside/log" >&2
    echo "build: the wheel could not be built" >&2
    exit 1
  }
  wheel=$(ls "$beside"/utilityflow-*.whl)
  zip=dist/$(basename "${wheel%%-py3*}").zip
  rm -f dist/.sources dist/utilityflow-*.whl dist/utilityflow-*.zip
  cp "$wheel" "$beside/twin"
  mv "$wheel" dist/
  mv "$beside/twin" "$zip"
  printf '%s\n' "$wanted" >dist/.sources
fi
printf '%s\n' "$zip"
