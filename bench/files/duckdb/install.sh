#!/bin/sh
# Fetches DuckDB, of the version in package.json, with npm into node_modules here.
set -eu
cd "$(dirname "$0")"
npm install --no-package-lock --no-audit --no-fund
