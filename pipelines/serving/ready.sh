#!/bin/bash
# Whether a model server can answer for a version: ready.sh MODEL LABEL [PORT]. The image has neither curl nor wget.
#
# The status code does not tell: it is 200 while versions load, and when none could be loaded. Their state does.
set -eu -o pipefail
exec 3<>"/dev/tcp/127.0.0.1/${3:-8501}"
printf 'GET /v1/models/%s/labels/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
grep --quiet '"state": *"AVAILABLE"' <&3
