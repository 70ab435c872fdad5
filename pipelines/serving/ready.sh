#!/bin/bash
# Whether a model server can answer for a version: ready.sh MODEL LABEL [PORT]. The image has neither curl nor wget.
#
# GET /v1/models/MODEL does not tell: it is 200 while versions load and when none could be loaded, and it lists all of
# them whatever label is asked for. The metadata of a version is 200 only where that very version answers.
set -eu -o pipefail
exec 3<>"/dev/tcp/127.0.0.1/${3:-8501}"
printf 'GET /v1/models/%s/labels/%s/metadata HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
read -r _ status _ <&3
test "$status" = 200
