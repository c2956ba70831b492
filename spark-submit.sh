#!/usr/bin/env bash
# Run one job with spark-submit: ./spark-submit.sh <job> [arguments of the job]
#
# Uses the same .venv/ as everything else (and sets it up if need be), submits the wheel's twin that ends in .zip (so
# that Python workers get it too) and the Delta jars that set-up fetched. What spark-submit itself is to be told stands
# in SPARK_SUBMIT_ARGS, for example SPARK_SUBMIT_ARGS="--master spark://host:7077 --driver-memory 8g".
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

job=${1:-}
if [[ ! $job =~ ^[A-Za-z0-9_]+$ || ! -f $root/jobs/$job.py ]]; then
  {
    if [[ -z $job ]]; then echo "usage: ./spark-submit.sh <job> [arguments]"; else echo "spark-submit.sh: there is no job '$job'"; fi
    echo "jobs:"
    for file in "$root"/jobs/*.py; do [[ ! -f $file ]] || echo "  $(basename "$file" .py)"; done
  } >&2
  exit 2
fi
shift

"$root/requirements/setup.sh" default >&2
zip=$root/$("$root/requirements/build.sh")
jars=$(printf '%s,' "$root"/.venv/share/utilityflow/jars/*.jar)
read -r -a more <<<"${SPARK_SUBMIT_ARGS:-}" || true

# The environment's own Spark and Python, whatever else the machine has. The engine's chatter stays out of sight (log4j,
# and one line that the JVM prints itself), so that a user sees what the job says.
unset SPARK_HOME
export PYSPARK_PYTHON=$root/.venv/bin/python PYSPARK_DRIVER_PYTHON=$root/.venv/bin/python
export SPARK_SUBMIT_OPTS="-Dlog4j2.configurationFile=$root/conf/log4j2.properties ${SPARK_SUBMIT_OPTS:-}"
exec "$root/.venv/bin/spark-submit" --name "utilityflow-$job" --driver-memory 2g \
  --conf spark.pyspark.driver.python="$root/requirements/driver_python.sh" \
  --jars "${jars%,}" --py-files "$zip" "${more[@]}" "$root/jobs/$job.py" "$@" \
  7>&2 2> >(grep --line-buffered -v '^WARNING: Using incubator modules' >&2)
