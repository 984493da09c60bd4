# Joins the lines of two files by their first words: join.sh LEFT RIGHT
# GNU parallel runs a task for each 1,000 lines.
set -e
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
split -l 1000 "$1" "$dir/left-"
split -l 1000 "$2" "$dir/right-"
parallel --retries 3 'tasks map --server "$SERVER" --job join --side {= s{.*/}{}; s{-.*}{} =} {}' ::: "$dir"/*
tasks reduce --server "$SERVER" --job join --tasks "$(ls "$dir" | wc -l)"
