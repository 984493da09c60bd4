// Command writers measures the throughput of several processes that write to one server. It
// compares shuffle.Writer with plain appends; the two take turns.
//
//	go run ./bench/writers -writers 1,2,4
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/benchserver"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shuffle"
)

// writerEnv is the environment variable with the role of a writing process: "writer" (writes with
// shuffle.Writer) or "plain" (writes with plain appends).
const writerEnv = "PARTD_BENCH_WRITER"

type flags struct {
	rounds       int
	dir, writers string
}

func main() {
	benchserver.ServeIfChild()
	if role := os.Getenv(writerEnv); role != "" {
		program.ExitOnError(runWriter(context.Background(), role, os.Args[1], os.Args[2]))
		return
	}
	var f flags
	flag.IntVar(&f.rounds, "rounds", 3, "runs of each test; the median is reported")
	flag.StringVar(&f.dir, "dir", os.TempDir(), "directory for stores; they are removed afterwards")
	flag.StringVar(&f.writers, "writers", "1,2,4", "numbers of writing processes; each number gets a line")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	program.ExitOnError(f.measureWriters(ctx))
}

// Each process writes 400 batches of 1,000 pieces of 1,000 bytes.
const batches, pieces, pieceBytes = 400, 1000, 1000

func runWriter(ctx context.Context, role, url, task string) (err error) {
	store, err := remote.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	w, err := shuffle.Begin(ctx, store, task, "")
	if err != nil {
		return err
	}
	batch := make([]partd.Entry, pieces)
	for i := range batch {
		batch[i] = partd.Entry{Key: fmt.Sprint("key", i), Value: make([]byte, pieceBytes)}
	}
	for range batches {
		if role == "plain" {
			err = store.Append(ctx, batch...)
		} else {
			err = w.Append(ctx, batch...)
		}
		if err != nil {
			return err
		}
	}
	return w.Commit(ctx)
}

func (f *flags) measureWriters(ctx context.Context) error {
	for list := range strings.SplitSeq(f.writers, ",") {
		n, err := strconv.Atoi(list)
		if err != nil {
			return fmt.Errorf("-writers: %w", err)
		}
		rates := map[string][]float64{}
		for range f.rounds {
			for _, role := range []string{"writer", "plain"} {
				rate, err := f.measureRate(ctx, n, role)
				if err != nil {
					return err
				}
				rates[role] = append(rates[role], rate)
			}
		}
		writerRate, plainRate := program.Median(rates["writer"]), program.Median(rates["plain"])
		fmt.Printf("%d processes: %.0f MB/s with shuffle.Writer, %.0f MB/s with plain appends, ratio %.2f\n", n, writerRate, plainRate, writerRate/plainRate)
	}
	return nil
}

func (f *flags) measureRate(ctx context.Context, n int, role string) (rate float64, err error) {
	p, err := benchserver.Start(ctx, f.dir, "log:DIR")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	begin := time.Now()
	var writers []*exec.Cmd
	for i := range n {
		cmd := exec.CommandContext(ctx, os.Args[0], p.URL(), fmt.Sprint(i))
		cmd.Env = append(os.Environ(), writerEnv+"="+role)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		writers = append(writers, cmd)
	}
	for _, w := range writers {
		err = errors.Join(err, w.Wait())
	}
	return float64(n*batches*pieces*pieceBytes) / 1e6 / time.Since(begin).Seconds(), err
}
