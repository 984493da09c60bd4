// Command remote compares partd-server with the server of Python's partd, over loopback. The
// clients wait for the acknowledgment of every append.
//
//	go run -C bench ./remote
//	go run -C bench ./remote --only "1,000 keys"
//
// The two servers of a row take turns, and the ratio compares their medians. If Python's partd is
// not installed, its column is empty.
//
//	go run -C bench ./remote --only "four readers"
//
// compares four processes that each read a quarter of a server's keys with one process
// that reads all keys, and with four processes that each read all keys.
//
//	go run -C bench ./remote --only "a job" --rounds 1
//
// measures the steps of a shuffle by tasks, for the model of docs/dev/cloud-model.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/benchdata"
)

// row is one line of the table. ours and peer run its load against the server at url and return the rate in MB/s.
type row struct {
	name   string
	target string // goal for partd-server: a rate in MB/s or, with "x", a multiple of the peer's rate
	store  string // kind of the store that partd-server uses, such as "log:"
	ours   func(ctx context.Context, url string) (float64, error)
	peer   func(ctx context.Context, url string) (float64, error) // runs with Python's server; nil if there is no comparison
}

func rows() []row {
	const batches, pythonBatches = 4000, 400 // numbers of batches of 100 kB
	appendSmallOurs := func(connections, inFlight int) func(context.Context, string) (float64, error) {
		return func(ctx context.Context, url string) (float64, error) {
			return appendSmall(ctx, url, connections, inFlight, batches)
		}
	}
	appendSmallPeer := func(connections int) func(context.Context, string) (float64, error) {
		return func(ctx context.Context, url string) (float64, error) {
			return appendRaw(ctx, url, connections, pythonBatches)
		}
	}
	return []row{
		{"append 1,000 keys of 100 B, Go client, 1 connection", ">= 500", "mem:", appendSmallOurs(1, 4), appendSmallPeer(1)},
		{"append 1,000 keys of 100 B, Go client, 4 connections", ">= 800", "mem:", appendSmallOurs(4, 4), appendSmallPeer(4)},
		{"append 1,000 keys of 100 B, Go client, 1 connection, no pipelining", "-", "mem:", appendSmallOurs(1, 1), appendSmallPeer(1)},
		{"append 1,000 keys of 100 B, Go client, 1 connection, log", "-", "log:", appendSmallOurs(1, 4), nil},
		{"append 1,000 keys of 100 B, Go client, 4 connections, log", "-", "log:", appendSmallOurs(4, 4), nil},
		{"append 1,000 keys of 100 B, Go client, 1 connection, TLS", ">= 220", "mem:", overTLS(appendSmallOurs(1, 4)), nil},
		{"get values of 1 MiB, Go client, TLS", ">= 220", "mem:", overTLS(getLarge), nil},
		{"append 1,000 keys of 100 B, Python's client", ">= 1.5 x", "mem:", pythonClient, pythonClient},
		{"append values of 1 MiB, Go client", ">= 1500", "mem:", appendLarge, appendLargeRaw},
		{"get values of 1 MiB, Go client", ">= 2000", "mem:", getLarge, getLargeRaw},
	}
}

func main() {
	program.ServeIfChild()
	readIfChild()
	rounds := flag.Int("rounds", 5, "runs of each test; the median is reported")
	filter := flag.String("only", "", "run only rows whose name contains this text")
	tasks := flag.Int("tasks", 8, "`number` of 256 MB tasks in the job")
	file := flag.String("figures", "", "add the medians to this `file`, in the format of docs/plots/draw")
	program.ParseFlags()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *rounds < 1 {
		program.ExitOnError(fmt.Errorf("--rounds %d: must be at least 1", *rounds))
	}
	err := compare(ctx, *rounds, *filter, *file)
	for _, store := range []string{"log:", "file:", "mem:"} {
		if name := "four readers of one server, " + store; err == nil && strings.Contains(name, *filter) {
			err = measureReaders(ctx, name, store, 4000, *rounds)
		}
	}
	if name := fmt.Sprintf("a job of %d tasks", *tasks); err == nil && strings.Contains(name, *filter) {
		err = measureJob(ctx, name, *tasks, 256e6, *rounds)
	}
	program.ExitOnError(err)
}

func compare(ctx context.Context, rounds int, filter, file string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MB/s, median of", rounds, "(min to max)\tours\tPython's server\tratio\ttarget")
	for _, r := range rows() {
		if !strings.Contains(r.name, filter) {
			continue
		}
		runs := []func() (float64, error){func() (float64, error) { return withServer(ctx, r.store, r.ours) }}
		if r.peer != nil {
			runs = append(runs, func() (float64, error) { return withPythonServer(ctx, r.peer) })
		}
		results, err := program.InTurns(rounds, runs...)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		ours, theirs := results[0], slices.Concat(results[1:]...)
		if len(ours) == 0 { // the row needs Python's client, which is not installed
			continue
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		figure := benchdata.Figure{Bench: "remote", Job: r.name, Contender: "partd-server", Unit: "MB/s"}
		figures := []benchdata.Figure{figure.WithRuns(ours)}
		peer, ratio := "-", "-"
		if len(theirs) > 0 {
			peer, ratio = formatSpread(theirs), fmt.Sprintf("%.1f", program.Median(ours)/program.Median(theirs))
			figure.Contender = "Python's server"
			figures = append(figures, figure.WithRuns(theirs))
		}
		if err := benchdata.AppendFigures(file, figures...); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.name, formatSpread(ours), peer, ratio, r.target)
	}
	return w.Flush()
}

func formatSpread(sorted []float64) string {
	return fmt.Sprintf("%.0f (%.0f to %.0f)", program.Median(sorted), sorted[0], sorted[len(sorted)-1])
}
