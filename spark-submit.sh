#!/usr/bin/env bash
# Run one job with spark-submit: ./spark-submit.sh [options of spark-submit] <job> [arguments of the job]
#
# <job> is the name of a file in jobs/, or the path of a script of one's own (mine.py) that imports utilityflow.
# Uses the same .venv/ as everything else (and sets it up if need be; LANE=floor takes .venv-floor/), submits the wheel's
# twin that ends in .zip (so that Python workers get it too) and the jars that set-up fetched. --jars and --py-files
# add to those. SPARK_SUBMIT_ARGS holds further options, for example SPARK_SUBMIT_ARGS="--master spark://host:7077".
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

# Words up to the job are spark-submit's; the value of an option may look like anything.
jars=() files=() options=()
option() { # one option: those that spark-submit takes once, and that we need ourselves, are put together
  case $1 in
    --jars) jars+=("$2") ;;
    --py-files) files+=("$2") ;;
    *) options+=("$@") ;;
  esac
}
take() { # the options at the head of the words; sets `taken` to their number
  taken=0
  while (($# > 0)) && [[ $1 == -* ]]; do
    case $1 in
      --*=*) option "${1%%=*}" "${1#*=}"; taken=$((taken + 1)); shift ;;
      --verbose | -v | --supervise) option "$1"; taken=$((taken + 1)); shift ;;
      *)
        if (($# < 2)) || [[ $1 == --help || $1 == -h ]]; then return; fi
        option "$1" "$2"
        taken=$((taken + 2))
        shift 2
        ;;
    esac
  done
}
read -r -a more <<<"${SPARK_SUBMIT_ARGS:-}" || true
take ${more[@]+"${more[@]}"}
if ((taken < ${#more[@]})); then
  echo "spark-submit.sh: SPARK_SUBMIT_ARGS: '${more[taken]}' is no option with its value" >&2
  exit 2
fi
take "$@"
shift "$taken"

job=${1:-}
if [[ $job =~ ^[A-Za-z0-9_]+$ && -f $root/jobs/$job.py ]]; then
  script=$root/jobs/$job.py
elif [[ $job == *.py && -f $job ]]; then
  script=$job
else
  {
    if [[ -z $job || $job == -* ]]; then
      echo "usage: ./spark-submit.sh [options of spark-submit] <job> [arguments]"
    else
      echo "spark-submit.sh: there is no job '$job'"
    fi
    echo "jobs:"
    for file in "$root"/jobs/*.py; do [[ ! -f $file ]] || echo "  $(basename "$file" .py)"; done
  } >&2
  exit 2
fi
shift

case ${LANE:-default} in
  default) venv=$root/.venv ;;
  floor) venv=$root/.venv-floor ;;
  *) echo "spark-submit.sh: LANE is default or floor" >&2; exit 2 ;;
esac
"$root/requirements/setup.sh" default >&2 # it builds the zip, whatever the lane
[[ $venv == "$root/.venv" ]] || "$root/requirements/setup.sh" "$LANE" >&2
files=("$root/$("$root/requirements/build.sh")" ${files[@]+"${files[@]}"})
jars=("$venv"/share/utilityflow/jars/{,jdbc/}*.jar ${jars[@]+"${jars[@]}"})
listed() { local IFS=,; printf '%s' "$*"; }

# The environment's own Spark and Python, whatever else the machine has. The engine's chatter stays out of sight (log4j,
# and one line that the JVM prints itself), so that a user sees what the job says. The JIT compiles the long methods that
# thirty rules make, as in a session of our own (jvm.py).
unset SPARK_HOME
export PYSPARK_PYTHON=$venv/bin/python PYSPARK_DRIVER_PYTHON=$venv/bin/python
chatter="-Dlog4j2.configurationFile=$root/conf/log4j2.properties"
export SPARK_SUBMIT_OPTS="$chatter -XX:-DontCompileHugeMethods ${SPARK_SUBMIT_OPTS:-}"
exec "$venv/bin/spark-submit" --name "utilityflow-$(basename "$script" .py)" --driver-memory 2g \
  --conf spark.pyspark.driver.python="$root/requirements/driver_python.sh" \
  ${options[@]+"${options[@]}"} --jars "$(listed "${jars[@]}")" --py-files "$(listed "${files[@]}")" "$script" "$@" \
  7>&2 2> >(grep --line-buffered -v '^WARNING: Using incubator modules' >&2)
