#!/bin/bash
set -e

virtualenv partd/py-partd --python=python3
source partd/py-partd/bin/activate
python3 -m pip install --upgrade psutil pyarrow
deactivate

# Go 1.26 or newer: https://go.dev/dl
./partd/upg-partd.sh
./partd/ver-partd.sh
