// Command wordcount counts words in several processes that share one partd-server. See README.md.
//
//	wordcount begin --server URL            fails if the store already has counts
//	wordcount map --server URL FILE...      counts the words of files into partitions
//	wordcount reduce --server URL           sums the counts, and prints the most frequent words
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/stores"
)

// partitions is the number of keys for the words. It must be the same in every process. The
// reducer holds the words of one partition at a time.
const partitions = 16

// open opens the store. A program that supports more kinds of stores may replace it.
var open = stores.Open

// batchWords is the number of different words that a mapper counts before it appends.
const batchWords = 50_000

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) == 0 {
		return errors.New("write: wordcount begin --server URL, wordcount map --server URL FILE..., or wordcount reduce --server URL")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	server := flags.String("server", "tcp://127.0.0.1:7077", "`URL` of the server; for several servers, tcp://HOST:PORT,HOST:PORT")
	top := flags.Int("top", 10, "number of words that reduce prints")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	store, err := open(ctx, *server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partd.Close(ctx, store)) }()
	switch args[0] {
	case "begin":
		for key, err := range partd.Keys(ctx, store) {
			if err != nil {
				return err
			}
			return fmt.Errorf("the server already has counts, in %s: another run would add to them; \"partd drop --store %s\" removes the counts", key.Key, *server)
		}
		return nil
	case "map":
		for _, name := range flags.Args() {
			if err := mapFile(ctx, store, name); err != nil {
				return err
			}
		}
		return nil
	case "reduce":
		return reduce(ctx, store, *top)
	}
	return fmt.Errorf("unknown command %q: write begin, map or reduce", args[0])
}

// mapFile counts the words of a file, and appends lines "word count" to the partitions
// of the words.
func mapFile(ctx context.Context, store partd.Partd, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	counts := map[string]int{}
	send := func() error {
		pieces := map[string][]byte{}
		for word, n := range counts {
			key := partition(word)
			pieces[key] = fmt.Appendf(pieces[key], "%s %d\n", word, n)
		}
		clear(counts)
		return store.Append(ctx, partd.Entries(pieces)...)
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		for _, word := range words(lines.Text()) {
			counts[word]++
		}
		if len(counts) >= batchWords {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return send()
}

// words returns the lower-case words of a line. Words are separated by characters other
// than ASCII letters and digits.
func words(line string) []string {
	return strings.FieldsFunc(strings.ToLower(line), func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// partition returns the key of a word's partition. worker.py must return the same.
func partition(word string) string {
	return fmt.Sprintf("part-%02d", crc32.ChecksumIEEE([]byte(word))%partitions)
}

// reduce sums the counts, one partition after another.
func reduce(ctx context.Context, store partd.Partd, top int) error {
	type count struct {
		word string
		n    int
	}
	var frequent []count
	total, distinct := 0, 0
	for i := range partitions {
		values, err := store.Get(ctx, fmt.Sprintf("part-%02d", i))
		if err != nil {
			return err
		}
		sums := map[string]int{}
		for line := range strings.Lines(string(values[0])) {
			word, number, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			n, err := strconv.Atoi(number)
			if err != nil {
				return fmt.Errorf("partition %d has the line %q: %w", i, line, err)
			}
			sums[word] += n
		}
		for word, n := range sums {
			frequent = append(frequent, count{word, n})
			total += n
		}
		distinct += len(sums)
		slices.SortFunc(frequent, func(a, b count) int { return cmp.Or(b.n-a.n, strings.Compare(a.word, b.word)) })
		frequent = frequent[:min(len(frequent), top)]
	}
	for _, c := range frequent {
		fmt.Printf("%d %s\n", c.n, c.word)
	}
	fmt.Printf("%d words, %d different\n", total, distinct)
	return nil
}
