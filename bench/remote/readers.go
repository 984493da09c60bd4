package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/program"
)

// readerEnv is the environment variable that turns this program into a process of a readerGroup. Its value is "1", or
// the step of a job. The arguments of the process are URL PART PARTS.
const readerEnv = "PARTD_BENCH_READER"

// readIfChild does nothing unless a readerGroup started this process. Otherwise, it scans a part
// of a store, prints the number of bytes of the values, and exits.
func readIfChild() {
	step := os.Getenv(readerEnv)
	if step == "" {
		return
	}
	n, err := readPart(context.Background(), step, os.Args[1:])
	program.ExitOnError(err)
	fmt.Println(n)
	os.Exit(0)
}

func readPart(ctx context.Context, step string, args []string) (int64, error) {
	part, err1 := strconv.Atoi(args[1])
	parts, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	if step != "1" {
		return runStep(ctx, step, args[0], part, parts)
	}
	return withClient(ctx, args[0], func(c client) (n int64, err error) {
		for chunk, err := range partd.ScanPart(ctx, c, part, parts) {
			if err != nil {
				return n, err
			}
			n += int64(len(chunk.Data))
		}
		return n, nil
	})
}

// readerGroup is a group of processes that read at the same time.
type readerGroup struct {
	name         string
	seconds      []float64 // time from the start of the first reader to the end of the last
	cpu          []float64 // CPU time of the readers and the server
	processes    int
	parts, reads int    // reads is the number of times that the group reads the whole store
	step         string // argument of runStep; "" to scan the store
}

func (r *readerGroup) run(ctx context.Context, server *program.Server, total int64) error {
	cmds, outs := make([]*exec.Cmd, r.processes), make([]bytes.Buffer, r.processes)
	var seconds float64
	cpu, err := cpuDuring(server, func() (err error) {
		seconds, err = concurrently(r.processes, func(i int) error {
			cmd := program.Self(server.URL(), strconv.Itoa(i%r.parts), strconv.Itoa(r.parts))
			cmd.Env = append(os.Environ(), readerEnv+"="+cmp.Or(r.step, "1"))
			cmd.Stdout = &outs[i]
			cmds[i] = cmd
			return cmd.Run()
		})
		return err
	})
	if err != nil {
		return err
	}
	read := int64(0)
	for i, cmd := range cmds {
		n, err := strconv.ParseInt(string(bytes.TrimSpace(outs[i].Bytes())), 10, 64)
		if err != nil {
			return err
		}
		read += n
		cpu += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	}
	if want := total * int64(r.reads); read != want {
		return fmt.Errorf("%s: the readers read %d bytes, want %d", r.name, read, want)
	}
	r.seconds, r.cpu = append(r.seconds, seconds), append(r.cpu, cpu)
	return nil
}

// measureReaders fills a server's store and measures how fast one process and four processes
// read it, alternating between them.
func measureReaders(ctx context.Context, name, store string, batches, rounds int) (err error) {
	p, err := startServer(ctx, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if _, err := appendSmall(ctx, p.URL(), 2, 4, batches); err != nil {
		return err
	}
	total := int64(batches) * keys * valueBytes
	all := []*readerGroup{
		{name: "one reads all", processes: 1, parts: 1, reads: 1},
		{name: "four read a quarter each", processes: 4, parts: 4, reads: 1},
		{name: "four read all", processes: 4, parts: 1, reads: 4},
	}
	for round := range rounds + 1 {
		for _, r := range all {
			if err := r.run(ctx, p, total); err != nil {
				return err
			}
			if round == 0 { // ignore the first round, which only warms up
				r.seconds, r.cpu = nil, nil
			}
		}
	}
	fmt.Printf("%s, %d MB, medians of %d\n", name, total/mega, rounds)
	for _, r := range all {
		slices.Sort(r.seconds)
		slices.Sort(r.cpu)
		fmt.Printf("  %-24s  %s, %.2f s of CPU including the server, ratio %.2f\n",
			r.name, time.Duration(program.Median(r.seconds)*float64(time.Second)).Round(time.Millisecond), program.Median(r.cpu), program.Median(r.seconds)/program.Median(all[0].seconds))
	}
	return nil
}
