// Command tasks counts, sorts, joins or shuffles lines in several processes that share one
// partd-server. Each process may die and be started again. See README.md.
//
//	tasks map --job JOB [--side left|right] FILE     runs one task: puts a file's lines into the store
//	tasks reduce --job JOB --tasks N                 waits for N tasks and prints the result
//	tasks reduce … --part I/PARTS --share SHARE      prints a part of the result and writes a checksum of the lines it read to SHARE
//	tasks verify --tasks N SHARE...                  fails unless the parts together read each line exactly once
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// open opens the store. A program that supports more kinds of stores may replace it.
var open = stores.Open

// batchBytes is the number of bytes that a task collects before it appends.
const batchBytes = 1 << 20

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tasks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("tasks", flag.ExitOnError)
	server := flags.String("server", "tcp://127.0.0.1:7077", "`URL` of the server; for several servers, tcp://HOST:PORT,HOST:PORT")
	job := flags.String("job", "", "`JOB`: count, sort, join or shuffle")
	side := flags.String("side", "left", "join: the `SIDE` of the file, left or right")
	tasks := flags.Int("tasks", 0, "the `number` of tasks to wait for")
	p := part{count: 1}
	flags.Func("part", "reduce: one part of the result, `I/PARTS` with I from 0", p.set)
	flags.StringVar(&p.share, "share", "", "reduce: `FILE` for the checksum of what a part has read")
	timeout := flags.Duration("timeout", time.Hour, "maximum time to wait for the tasks")
	if len(args) == 0 {
		return errUsage
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	store, err := open(ctx, *server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partd.Close(ctx, store)) }()
	wait := &shuffle.WaitOptions{Count: *tasks, Timeout: *timeout}
	switch {
	case *tasks < 1 && slices.Contains([]string{"reduce", "verify"}, args[0]):
		return errors.New("--tasks is missing: pass the number of tasks to wait for")
	case args[0] == "verify" && flags.NArg() > 0:
		return verify(ctx, store, wait, flags.Args())
	case !slices.Contains([]string{"count", "sort", "join", "shuffle"}, *job):
		return fmt.Errorf("unknown job %q: --job is count, sort, join or shuffle", *job)
	case !slices.Contains([]string{"left", "right"}, *side): // join would ignore lines of another side
		return fmt.Errorf("unknown side %q: --side is left or right", *side)
	case args[0] == "map" && flags.NArg() == 1:
		return mapFile(ctx, store, *job, *side, flags.Arg(0))
	case args[0] == "reduce" && flags.NArg() == 0:
		return reduce(ctx, store, *job, wait, p)
	}
	return errUsage
}

var errUsage = errors.New("write tasks map FILE, tasks reduce, or tasks verify with the SHARE of each reader")

// Lines are divided into this number of partitions. Each partition is stored under a key.
const partitions = 256

// part is one of count parts of the result: a range of the partitions. A part cannot be verified
// alone, so its reader writes a checksum to the file named by share, for "tasks verify".
type part struct {
	index, count int
	share        string
}

func (p *part) set(text string) error {
	_, err := fmt.Sscanf(text, "%d/%d", &p.index, &p.count)
	if err != nil || p.index < 0 || p.index >= p.count || p.count > partitions {
		return fmt.Errorf("write --part I/PARTS, with I from 0 to PARTS-1 and at most %d parts", partitions)
	}
	return nil
}

// mapFile runs a task: it appends each line of a file to the key of the line's partition. For the
// job "count", it appends each word to the key of the word's partition instead.
func mapFile(ctx context.Context, store partd.Partd, job, side, name string) error {
	w, err := shuffle.Begin(ctx, store, side+" "+name, "") // each start of this program is a separate attempt at the task
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
			add(append([]byte(line), 0)[0], line) // the first byte selects the partition, so that partitions are in the order of the lines
		case "join":
			key, _, _ := strings.Cut(line, " ")
			add(hash(key), side+" "+line)
		case "shuffle":
			key, _, _ := strings.Cut(line, " ")
			add(hash(key), line)
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

// reduce computes a part of the result. It reads one partition at a time.
func reduce(ctx context.Context, store partd.Partd, job string, o *shuffle.WaitOptions, p part) error {
	if p.count > 1 && p.share == "" {
		return errors.New("a part needs --share FILE: tasks verify must see that no part is missing")
	}
	if p.share != "" { // remove the file of an earlier run: tasks verify must not accept it for this run's output
		if err := os.Remove(p.share); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	c, err := shuffle.WaitCommitted(ctx, store, o)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	var share shuffle.Checksum
	for partition := p.index * partitions / p.count; partition < (p.index+1)*partitions/p.count; partition++ {
		key := fmt.Sprintf("%02x", partition)
		lines := func(side string, share *shuffle.Checksum) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for piece, err := range c.Values(ctx, key, share) {
					for line := range strings.Lines(string(piece)) {
						content, hasSide := strings.CutPrefix(strings.TrimSuffix(line, "\n"), side)
						if hasSide && !yield(content, nil) {
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
			identity := func(line string) string { return line }
			for line, sortErr := range shuffle.Sort(ctx, lines("", &share), shuffle.By(shuffle.Asc(identity)), nil) {
				if err = sortErr; err != nil {
					break
				}
				fmt.Fprintln(out, line)
			}
		case "shuffle":
			for line, lineErr := range lines("", &share) {
				if err = lineErr; err != nil {
					break
				}
				fmt.Fprintln(out, line)
			}
		case "join":
			firstWord := func(line string) string { key, _, _ := strings.Cut(line, " "); return key }
			// Both sides are in the same partition, so it is read twice. Only the first pass adds
			// to the checksum.
			for row, joinErr := range shuffle.Join(ctx, lines("left ", &share), lines("right ", nil), firstWord, firstWord, nil) {
				if err = joinErr; err != nil {
					break
				}
				_, rightWords, _ := strings.Cut(row.Right, " ")
				fmt.Fprintln(out, row.Left, rightWords)
			}
		}
		if err != nil {
			return err
		}
	}
	if p.share == "" {
		return errors.Join(c.Verify(share), out.Flush())
	}
	text, err := json.Marshal(share)
	if err = errors.Join(err, out.Flush()); err != nil {
		return err
	}
	return os.WriteFile(p.share, text, 0o666)
}

// verify compares the checksums of the lines that the readers read with those of the committed
// tasks.
func verify(ctx context.Context, store partd.Partd, o *shuffle.WaitOptions, files []string) error {
	c, err := shuffle.WaitCommitted(ctx, store, o)
	if err != nil {
		return err
	}
	shares := make([]shuffle.Checksum, len(files))
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, &shares[i])
		}
		if err != nil {
			return fmt.Errorf("share %s: %w", name, err)
		}
	}
	return c.Verify(shares...)
}

func count(ctx context.Context, out *bufio.Writer, words iter.Seq2[string, error]) error {
	counter := shuffle.Accumulator[string, int]{
		Add:   func(n *int, _ string) { *n++ },
		Merge: func(n, other *int) { *n += *other },
	}
	for r, err := range shuffle.Aggregate(ctx, words, func(word string) string { return word }, counter, nil) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, r.Value, r.Key)
	}
	return nil
}
