# Counts the words of files: count.sh FILE...
# Each file has a separate process. If the process fails, it is started again, up to three times in all.
for file; do
	{ for try in 1 2 3; do tasks map --server "$SERVER" --job count "$file" && break; done; } &
done
tasks reduce --server "$SERVER" --job count --tasks $#
