#!/bin/sh
# The driver's Python under spark-submit, which joins a driver's standard error to its standard output: that would put
# log lines into the one JSON object of --json. spark-submit.sh leaves the caller's standard error open as descriptor 7 of
# the JVM, this process's parent; where /proc leads to it, errors go there. Elsewhere they stay joined.
python=${PYSPARK_DRIVER_PYTHON:-$(dirname "$0")/../.venv/bin/python}
if (: 2>>"/proc/$PPID/fd/7") 2>/dev/null; then exec "$python" "$@" 2>>"/proc/$PPID/fd/7"; fi
exec "$python" "$@"
