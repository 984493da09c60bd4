#!/bin/bash
set -e

partd/bin/partd version | cut -d ' ' -f 3 | tr -d '\n' >partd/VERSION
: >partd/REVISION
