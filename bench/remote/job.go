package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/shuffle"
)

const (
	jobRow        = 100 // bytes of a row
	jobPartitions = 1024
	batchBytes    = 4 << 20
)

// measureJob runs a job of tasks with size bytes each through a server that has a log store, once per round: two
// processes generate and partition rows without a store, then append them as tasks, then read and verify half of the
// partitions each. The constants in bench/cloudplan/simulate.go were measured by this function.
func measureJob(ctx context.Context, name string, tasks, size, rounds int) error {
	for range rounds {
		p, err := startServer(ctx, "log:")
		if err != nil {
			return err
		}
		for _, step := range []string{"generate", "append", "read"} {
			before := writtenBy(p.Pid())
			g := &readerGroup{name: step, processes: 2, parts: 2, reads: 1, step: fmt.Sprint(step, " ", tasks, " ", size)}
			total := int64(tasks * size)
			if err := g.run(ctx, p, total); err != nil {
				return errors.Join(err, p.Close())
			}
			fmt.Printf("%s, %d MB, %s: %.1f s, %.2f s of CPU per GB, %.2f bytes written per byte\n",
				name, total/mega, step, g.seconds[0], g.cpu[0]/float64(total)*1e9, float64(writtenBy(p.Pid())-before)/float64(total))
		}
		if err := p.Close(); err != nil {
			return err
		}
	}
	return nil
}

// runStep runs one part of a step such as "append 8 1000" (8 tasks of 1,000 bytes), which is divided among the given
// number of processes. It returns the total size of its rows.
func runStep(ctx context.Context, step, url string, part, parts int) (n int64, err error) {
	var tasks, size int
	if _, err := fmt.Sscan(step, &step, &tasks, &size); err != nil {
		return 0, err
	}
	return withClient(ctx, url, func(c client) (n int64, err error) {
		if step == "read" {
			done, err := shuffle.WaitCommitted(ctx, c, &shuffle.WaitOptions{Count: tasks})
			if err != nil {
				return 0, err
			}
			var sum shuffle.Checksum
			for e, err := range done.ScanPart(ctx, part, parts, &sum) {
				if err != nil {
					return n, err
				}
				n += int64(len(e.Value))
			}
			return n, nil
		}
		for task := part; task < tasks; task += parts {
			add, commit := func(context.Context, ...partd.Entry) error { return nil }, func(context.Context) error { return nil }
			if step == "append" {
				w, err := shuffle.Begin(ctx, c, fmt.Sprint("task ", task), "")
				if err != nil {
					return n, err
				}
				add, commit = w.Append, w.Commit
			}
			if err := errors.Join(generate(ctx, uint64(task), size, add), commit(ctx)); err != nil {
				return n, err
			}
			n += int64(size)
		}
		return n, nil
	})
}

// generate passes rows with a total of size bytes to add, in batches with one entry per partition.
func generate(ctx context.Context, task uint64, size int, add func(context.Context, ...partd.Entry) error) error {
	batch := make([]partd.Entry, jobPartitions)
	for i := range batch {
		batch[i].Key = fmt.Sprintf("%04d", i)
	}
	random := rand.NewPCG(task, 0)
	var row [jobRow + 4]byte
	for remaining := size / jobRow; remaining > 0; {
		for i := range batch {
			batch[i].Value = batch[i].Value[:0]
		}
		for end := max(remaining-batchBytes/jobRow, 0); remaining > end; remaining-- {
			for i := 0; i < jobRow; i += 8 {
				binary.LittleEndian.PutUint64(row[i:], random.Uint64())
			}
			b := &batch[binary.LittleEndian.Uint64(row[:])%jobPartitions]
			b.Value = append(b.Value, row[:jobRow]...)
		}
		if err := add(ctx, batch...); err != nil {
			return err
		}
	}
	return nil
}

// writtenBy returns the bytes that a process has written to disks, or 0 if /proc does not report them.
func writtenBy(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	_, rest, _ := strings.Cut(string(text), "\nwrite_bytes: ")
	number, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseInt(number, 10, 64)
	return n
}
