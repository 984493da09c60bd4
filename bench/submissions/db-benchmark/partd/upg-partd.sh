#!/bin/bash
set -e

echo 'upgrading partd...'

GOBIN=$PWD/partd/bin go install github.com/go-partd/partd/cmd/partd@latest
