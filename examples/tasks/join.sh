# Joins the lines of two files by their first words, in pieces of 1,000 lines, with GNU
# parallel: join.sh LEFT RIGHT
set -e
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
split -l 1000 "$1" "$dir/left-"
split -l 1000 "$2" "$dir/right-"
parallel --retries 3 'tasks map --server "$SERVER" --job join --side {= s{.*/}{}; s{-.*}{} =} {}' ::: "$dir"/*
tasks reduce --server "$SERVER" --job join --tasks "$(ls "$dir" | wc -l)"
