// Command join measures partd join beside DuckDB on two files larger than memory,
// in turns, and what writers of shuffle put through one server.
//
//	go run ./bench/join                                        # 10 M rows joined with 10 M, in 512 MB
//	go run ./bench/join -rows 1000000 -memory 64MiB -duckdb-memory 160MB
//	go run ./bench/join -writers 1,2,4                         # processes through one server
//
// DuckDB is that of .ci/peers. The outputs are compared: rows, bytes, and the sum of
// their hashes.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-partd/partd/internal/csvgen"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/testutil/serverproc"
)

type flags struct {
	rows                 int64
	memory, duckdbMemory string
	threads, rounds      int
	dir, python, writers string
}

func main() {
	if work := os.Getenv(asChild); work != "" {
		child(work)
	}
	var f flags
	flag.Int64Var(&f.rows, "rows", 10_000_000, "rows of each side, of about 105 bytes, and as many different keys")
	flag.StringVar(&f.memory, "memory", "512MB", "memory of partd")
	flag.StringVar(&f.duckdbMemory, "duckdb-memory", "512MB", "memory_limit of DuckDB")
	flag.IntVar(&f.threads, "threads", 2, "threads of both")
	flag.IntVar(&f.rounds, "rounds", 3, "runs of each, of which the median counts")
	flag.StringVar(&f.dir, "dir", filepath.Join(os.TempDir(), "bench-join"), "directory for inputs, which are kept, and outputs, which are removed")
	cache, _ := os.UserCacheDir() // without one, -python says where
	flag.StringVar(&f.python, "python", filepath.Join(cache, "partd-peers", "duckdb", "bin", "python"), "a Python that has duckdb")
	flag.StringVar(&f.writers, "writers", "", "measure so many writer processes instead, as 1,2,4")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := os.MkdirAll(f.dir, 0o777)
	switch {
	case err != nil:
	case f.writers != "":
		err = f.measureWriters(ctx)
	default:
		err = f.compare(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "join:", err)
		os.Exit(1)
	}
}

// input makes a side, unless it is there.
func (f *flags) input(seed uint64) (string, error) {
	name := filepath.Join(f.dir, fmt.Sprintf("%d-%d.csv", f.rows, seed))
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	file, err := os.Create(name + ".part")
	if err != nil {
		return "", err
	}
	err = csvgen.Write(file, csvgen.Options{Rows: f.rows, Keys: f.rows, Seed: seed})
	if err = errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	return name, os.Rename(name+".part", name)
}

const query = `
import duckdb, sys
left, right, out, memory, threads = sys.argv[1:]
c = duckdb.connect(config={"memory_limit": memory, "threads": threads, "temp_directory": out + ".tmp", "preserve_insertion_order": "false"})
side = "read_csv('%s', header=true, quote='', auto_detect=false, columns={'id': 'VARCHAR', 'key': 'VARCHAR', 'v1': 'VARCHAR', 'v2': 'VARCHAR', 'text': 'VARCHAR'})"
c.sql(f"copy (select l.key, l.id, l.v1, l.v2, l.text, r.id, r.v1, r.v2, r.text from {side % left} l join {side % right} r on l.key = r.key) to '{out}' (header)")
`

// compare runs both in turns.
func (f *flags) compare(ctx context.Context) error {
	left, err := f.input(1)
	if err != nil {
		return err
	}
	right, err := f.input(2)
	if err != nil {
		return err
	}
	partd := filepath.Join(f.dir, "partd")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", partd, "./cmd/partd").CombinedOutput(); err != nil {
		return fmt.Errorf("building partd: %w: %s", err, out)
	}
	out, threads := filepath.Join(f.dir, "out.csv"), fmt.Sprint(f.threads)
	names := []string{"partd join", "DuckDB"}
	seconds := make([][]float64, 2)
	var first ledger.Count
	for round := range f.rounds {
		for i := range names {
			i = (i + round) % 2
			cmd := exec.CommandContext(ctx, partd, "join", "--on", "key", "--memory", f.memory, "--threads", threads, "--tmp", f.dir, "-o", out, left, right)
			if i == 1 {
				cmd = exec.CommandContext(ctx, f.python, "-c", query, left, right, out, f.duckdbMemory, threads)
			}
			s, cpu, peak, err := measure(cmd)
			if err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			seconds[i] = append(seconds[i], s)
			count, err := digest(out)
			if err = errors.Join(err, os.Remove(out), os.RemoveAll(out+".tmp")); err != nil {
				return err
			}
			if first.Records == 0 {
				first = count
			} else if err := first.Compare(count); err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			fmt.Printf("%-10s  %6.1f s  %6.1f s of CPU  %5d MiB  %d rows\n", names[i], s, cpu, peak>>20, count.Records-1)
		}
	}
	ours, theirs := median(seconds[0]), median(seconds[1])
	fmt.Printf("\nmedians: partd %.1f s, DuckDB %.1f s: partd is %.2f times as fast\n", ours, theirs, theirs/ours)
	return nil
}

// measure runs a command, and returns its seconds, those of processors, and the most
// memory that it had.
func measure(cmd *exec.Cmd) (seconds, cpu float64, peak int64, err error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				return 0, 0, 0, fmt.Errorf("%w: %s", err, &stderr)
			}
			s := cmd.ProcessState
			return time.Since(start).Seconds(), (s.UserTime() + s.SystemTime()).Seconds(), peak, nil
		case <-time.After(10 * time.Millisecond):
			if _, most, err := serverproc.Memory(cmd.Process.Pid); err == nil {
				peak = max(peak, most)
			}
		}
	}
}

// digest counts the lines of a file, in whatever order they are.
func digest(name string) (c ledger.Count, err error) {
	file, err := os.Open(name)
	if err != nil {
		return c, err
	}
	lines := bufio.NewScanner(file)
	lines.Scan() // the names of columns differ
	c.Records = 1
	for lines.Scan() {
		c.AddRecord(lines.Bytes())
	}
	return c, errors.Join(lines.Err(), file.Close())
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
