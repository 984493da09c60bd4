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
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/servercli"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shuffle"
)

// childEnv is the environment variable with the role of a child process: "server", "writer"
// (writes with shuffle.Writer) or "plain" (writes with plain appends).
const childEnv = "PARTD_BENCH_CHILD"

type flags struct {
	rounds       int
	dir, writers string
}

func main() {
	if role := os.Getenv(childEnv); role != "" {
		runChild(role)
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

func runChild(role string) {
	if role == "server" {
		os.Exit(servercli.Main(os.Args[1:]))
	}
	if err := runWriter(context.Background(), role, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
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
	dir, err := os.MkdirTemp(f.dir, "store-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	start := func(role string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0], args...)
		cmd.Env = append(os.Environ(), childEnv+"="+role)
		cmd.Stderr = os.Stderr
		return cmd
	}
	server := start("server", "--listen", "tcp://127.0.0.1:0", "--store", "log:"+dir+"/data")
	server.Stderr = nil
	p, err := serverproc.Start(ctx, server, 1)
	if err != nil {
		return 0, err
	}
	defer p.Kill()
	begin := time.Now()
	var writers []*exec.Cmd
	for i := range n {
		cmd := start(role, p.URL(), fmt.Sprint(i))
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
