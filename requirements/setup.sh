#!/usr/bin/env bash
# Set-up of one lane: `make setup` (default lane -> .venv/) and `make setup-floor` (floor lane -> .venv-floor/).
#
# Installs exactly what the lane's lock names, by hash, then this project editable, then the Delta jars. Afterwards no
# run needs the network. A second call returns at once: a stamp in the environment says what it was made from.
# Environment: PYTHON (which Python to use), MAVEN_MIRROR, and what pip, uv and curl know of proxies, mirrors and certificates.
set -euo pipefail

lane=${1:-default}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
case $lane in
  default) venv=.venv javas="17 21" ;;
  floor) venv=.venv-floor javas="17" ;;
  *) echo "setup: unknown lane '$lane'; there are: default, floor" >&2; exit 2 ;;
esac
lock=requirements/$lane.lock
stamp=$venv/.setup-stamp

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 2; }
# Root on Debian or Ubuntu may install what is missing; everybody else is told what to install.
can_apt() { [[ $(id -u) == 0 && -f /etc/debian_version ]] && command -v apt-get >/dev/null; }
apt_install() {
  say "installing $* (apt-get)"
  apt-get update -qq </dev/null >/dev/null 2>&1 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null 2>&1
}

# ---- Java: Spark uses JAVA_HOME if it is set, else java on PATH; so the same is looked at here.
java_command() { if [[ -n ${JAVA_HOME:-} ]]; then echo "$JAVA_HOME/bin/java"; else command -v java || true; fi; }
java_major() { # prints 17 for "17.0.15", 8 for "1.8.0", nothing when there is no working Java
  local java
  java=$(java_command)
  [[ -x $java ]] || return 0
  "$java" -version 2>&1 | sed -nE 's/.* version "(1\.)?([0-9]+).*/\2/p' | head -n 1
}
java_fits() { [[ -n $1 && " $javas " == *" $1 "* ]]; }

check_java() {
  local found wanted=${javas/ / or } version
  found=$(java_major)
  java_fits "$found" && return
  if [[ -z ${JAVA_HOME:-} ]] && can_apt; then
    for version in $javas; do
      apt_install "openjdk-$version-jre-headless" && hash -r && java_fits "$(java_major)" && return
    done
  fi
  found=$(java_major)
  fail "Java $wanted is needed, found ${found:-none}${JAVA_HOME:+ in JAVA_HOME=$JAVA_HOME}: install openjdk-17-jre-headless" \
    "(Debian, Ubuntu) or any Java 17, and let JAVA_HOME or PATH lead to it"
}

# ---- Python: PYTHON if given, else python3, else the newest python3.x on PATH that fits.
python_fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if python_fits "$candidate"; then command -v "$candidate"; return; fi
  done
  fail "Python 3.10 to 3.13 is needed, ${PYTHON:-python3} is" \
    "$("${PYTHON:-python3}" --version 2>/dev/null || echo 'not there'): set PYTHON=/path/to/python3.x"
}

python_agrees() { # with the environment's, where a Python was chosen
  [[ -z ${PYTHON:-} || $("$PYTHON" --version) == "$("$venv/bin/python" --version 2>/dev/null)" ]]
}

make_venv() { # Debian splits ensurepip off into python3-venv
  local python=$1 minor
  "$python" -m venv --clear "$venv" >/dev/null 2>&1 && return
  minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if can_apt && apt_install "python$minor-venv" && "$python" -m venv --clear "$venv" >/dev/null; then return; fi
  fail "$python cannot make a virtual environment: install python$minor-venv (Debian, Ubuntu), or set PYTHON to another Python"
}

# ---- One set-up at a time (two shells, or two make targets); the lock goes when the process ends.
exec 9<"${BASH_SOURCE[0]}"
if command -v flock >/dev/null; then flock 9; fi

check_java
[[ -z ${PYTHON:-} ]] || find_python >/dev/null
wanted=$root$'\n'$(cksum "$lock" requirements/build.lock requirements/fetch_jars.py requirements/archive_classes.py requirements/setup.sh pyproject.toml)
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && python_agrees; then exit 0; fi

# pip and uv are told: no chatter, no foreign Python, the certificates and the mirror that pip already knows.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_WARN_SCRIPT_LOCATION=1
export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1} UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
[[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}

rm -f "$stamp"
# A moved tree, a broken environment or another chosen Python needs a new one; anything else is brought up to date in place.
if [[ $(cat "$venv/.made-for" 2>/dev/null) != "$root" ]] || ! python_agrees || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  make_venv "$python"
  printf '%s\n' "$root" >"$venv/.made-for"
fi
say "$lane lane in $venv/ ($("$venv/bin/python" --version), Java $(java_major))"
if [[ -z ${UV_DEFAULT_INDEX:-} ]]; then
  index=$("$venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)
  index=${PIP_INDEX_URL:-$index}
  [[ -z $index ]] || export UV_DEFAULT_INDEX=$index
fi

# uv comes from the same lock, by hash; it installs the rest (a warm cache makes that seconds instead of minutes).
sed -n '/^uv==/,/^    #/p' "$lock" >"$venv/uv.txt"
"$venv/bin/python" -m pip install --quiet --require-hashes -r "$venv/uv.txt"
say "installing $(grep -c '==' "$lock") packages from $lock (minutes the first time: pyspark alone is 450 MB)"
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes --build-constraints requirements/build.lock "$lock"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
say "fetching the Delta jars and the drivers of databases"
"$venv/bin/python" requirements/fetch_jars.py "$lane" "$venv/share/utilityflow/jars"
say "keeping the engine's classes for quick starts"
"$venv/bin/python" requirements/archive_classes.py >/dev/null 2>&1 || say "that failed; starts are as slow as without"
printf '%s\n' "$wanted" >"$stamp"
say "ready: $venv/bin/utilityflow"
