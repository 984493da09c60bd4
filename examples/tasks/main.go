// Command tasks counts, sorts or joins lines by several processes that share one
// partd-server, and that may die and be started again. See README.md.
//
//	tasks map --job JOB [--side left|right] FILE     puts a file's lines into the store: a task
//	tasks reduce --job JOB --tasks N                 waits for N tasks, and prints the result
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// open opens the store; a program with more kinds of stores opens those, too.
var open = stores.Open

// batchBytes is how much a task collects before it sends it.
const batchBytes = 1 << 20

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tasks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("tasks", flag.ExitOnError)
	server := flags.String("server", "tcp://127.0.0.1:7077", "`URL` of the server; of several, tcp://HOST:PORT,HOST:PORT")
	job := flags.String("job", "", "`JOB`: count, sort or join")
	side := flags.String("side", "left", "join: the `SIDE` that the file is, left or right")
	tasks := flags.Int("tasks", 0, "the `number` of tasks to wait for")
	timeout := flags.Duration("timeout", time.Hour, "how long to wait for them")
	if len(args) == 0 {
		return errors.New("write tasks map or tasks reduce")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	store, err := open(ctx, *server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partd.Close(ctx, store)) }()
	switch {
	case !slices.Contains([]string{"count", "sort", "join"}, *job):
		return fmt.Errorf("there are the jobs count, sort and join, not %q", *job)
	case args[0] == "map" && flags.NArg() == 1:
		return mapFile(ctx, store, *job, *side, flags.Arg(0))
	case args[0] == "reduce" && flags.NArg() == 0:
		return reduce(ctx, store, *job, &shuffle.WaitOptions{Count: *tasks, Timeout: *timeout})
	}
	return errors.New("write tasks map FILE or tasks reduce")
}

// mapFile is a task: it puts the lines of a file under the keys of the partitions
// that they belong to.
func mapFile(ctx context.Context, store partd.Partd, job, side, name string) error {
	w, err := shuffle.Begin(ctx, store, side+" "+name, "") // each start is an attempt of its own
	if errors.Is(err, shuffle.ErrCommitted) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	batch, size := map[string][]byte{}, 0
	add := func(partition byte, line string) {
		key := fmt.Sprintf("%02x", partition)
		batch[key] = append(append(batch[key], line...), '\n')
		size += len(line)
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		switch line := lines.Text(); job {
		case "count":
			for _, word := range strings.Fields(line) {
				add(hash(word), word)
			}
		case "sort":
			add(append([]byte(line), 0)[0], line) // so that partitions follow each other as lines do
		case "join":
			key, _, _ := strings.Cut(line, " ")
			add(hash(key), side+" "+line)
		}
		if size >= batchBytes {
			if err := w.Append(ctx, partd.Entries(batch)...); err != nil {
				return err
			}
			clear(batch)
			size = 0
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := w.Append(ctx, partd.Entries(batch)...); err != nil {
		return err
	}
	return w.Commit(ctx)
}

func hash(text string) byte { return byte(crc32.ChecksumIEEE([]byte(text))) }

// reduce reads one partition after the other.
func reduce(ctx context.Context, store partd.Partd, job string, o *shuffle.WaitOptions) error {
	c, err := shuffle.WaitCommitted(ctx, store, o)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	var share shuffle.Share
	for partition := range 256 {
		key := fmt.Sprintf("%02x", partition)
		lines := func(side string, share *shuffle.Share) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for piece, err := range c.Values(ctx, key, share) {
					for line := range strings.Lines(string(piece)) {
						rest, mine := strings.CutPrefix(strings.TrimSuffix(line, "\n"), side)
						if mine && !yield(rest, nil) {
							return
						}
					}
					if err != nil {
						yield("", err)
						return
					}
				}
			}
		}
		switch job {
		case "count":
			err = count(ctx, out, lines("", &share))
		case "sort":
			whole := func(line string) string { return line }
			for line, serr := range shuffle.Sort(ctx, lines("", &share), shuffle.By(shuffle.Asc(whole)), nil) {
				if err = serr; err != nil {
					break
				}
				fmt.Fprintln(out, line)
			}
		case "join":
			first := func(line string) string { key, _, _ := strings.Cut(line, " "); return key }
			// Both sides are in one partition, which is read twice and counted once.
			for row, jerr := range shuffle.Join(ctx, lines("left ", &share), lines("right ", nil), first, first, nil) {
				if err = jerr; err != nil {
					break
				}
				_, rest, _ := strings.Cut(row.Right, " ")
				fmt.Fprintln(out, row.Left, rest)
			}
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(c.Verify(share), out.Flush())
}

func count(ctx context.Context, out *bufio.Writer, words iter.Seq2[string, error]) error {
	add := shuffle.Accumulator[string, int]{
		Add:   func(n *int, _ string) { *n++ },
		Merge: func(n, other *int) { *n += *other },
	}
	for r, err := range shuffle.Aggregate(ctx, words, func(word string) string { return word }, add, nil) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, r.Value, r.Key)
	}
	return nil
}
