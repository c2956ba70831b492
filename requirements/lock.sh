#!/usr/bin/env bash
# Refresh the three locks: `make lock` (add UPGRADE=1 to take newer versions of everything that is not pinned).
# Universal: one lock holds for Python 3.10 to 3.13 on every system. No index address goes into a lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=.venv/bin/uv
if [[ ! -x $uv ]]; then uv=$(command -v uv) || { echo "lock: run 'make setup' first" >&2; exit 2; }; fi

compile() { # NAME INPUT...
  local name=$1
  shift
  "$uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-header \
    --annotation-style line ${UPGRADE:+--upgrade} --output-file "requirements/$name.lock" "$@"
}

compile build requirements/build.in
for lane in default floor; do
  compile "$lane" --extra dev pyproject.toml "requirements/$lane.in"
done
