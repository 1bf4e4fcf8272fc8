#!/bin/bash
# pytest with the words that are given. What fails beside other tests runs once more, alone: a machine that was busy for a moment
# is no fault of the code. `make test` names such tests at its end all the same.
set -uo pipefail
pytest -q "$@"
status=$?
((status == 1)) || exit "$status"
echo "What failed, once more and alone:"
exec pytest -q "$@" -n 0 --maxfail 5 --last-failed --last-failed-no-failures none
