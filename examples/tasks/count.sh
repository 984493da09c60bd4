# Counts the words of files: count.sh FILE...
# Each file is counted by a separate process, which is started up to three times.
for file; do
	{ for try in 1 2 3; do tasks map --server "$SERVER" --job count "$file" && break; done; } &
done
tasks reduce --server "$SERVER" --job count --tasks $#
