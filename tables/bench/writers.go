//go:build cgo && unix

package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/tables"
)

// writersBench measures concurrent writers.
type writersBench struct{ *bench }

// measureWriters appends single rows, each synced, from several concurrent writers: first to one table, and
// then to one table per writer. In each round, every number of writers runs once.
func (b *writersBench) measureWriters() error {
	const testDuration = 2 * time.Second
	counts := []int{1, 8, 32}
	for _, ownTables := range []bool{false, true} {
		times := map[int][]float64{} // seconds per row
		for range b.rounds {
			for _, n := range counts {
				elapsed, err := b.writeConcurrently(n, ownTables, testDuration)
				if err != nil {
					return err
				}
				times[n] = append(times[n], elapsed)
			}
		}
		for _, n := range counts {
			b.report(writersJob(n, ownTables), "tables", benchdata.Median(times[n]), b.rounds)
		}
	}
	return b.measureSync()
}

// writeConcurrently runs n writers that append single rows. It returns the seconds divided by the number of rows.
func (b *writersBench) writeConcurrently(n int, ownTables bool, testDuration time.Duration) (elapsed float64, err error) {
	err = b.withStore(&tables.Options{Sync: true, FoldAge: -1}, func(s *tables.Store) error {
		row := trades(0, 1)
		name := func(i int) string {
			if ownTables {
				return fmt.Sprint("t", i)
			}
			return "t"
		}
		if err := repeat(n, func(i int) error { return b.put(s, name(i), nil, row) }); err != nil {
			return err
		}
		var rows atomic.Int64
		var wg sync.WaitGroup
		errs := make([]error, n)
		start := time.Now()
		for i := range n {
			wg.Go(func() {
				for time.Since(start) < testDuration && errs[i] == nil {
					errs[i] = b.put(s, name(i), nil, row)
					rows.Add(1)
				}
			})
		}
		wg.Wait()
		elapsed = time.Since(start).Seconds() / float64(rows.Load())
		return errors.Join(errs...)
	})
	return elapsed, err
}

// measureSync measures syncs of a file that does not grow.
func (b *writersBench) measureSync() error {
	const n = 200
	f, err := os.CreateTemp(b.dir, "sync-")
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // the file is removed
	if err := f.Truncate(1 << 20); err != nil {
		return err
	}
	elapsed, err := b.median(func() error {
		return repeat(n, func(i int) error {
			_, err := f.WriteAt(make([]byte, 512), int64(i)*512)
			return errors.Join(err, f.Sync())
		})
	})
	fmt.Printf("syncing a file after a write of 512 bytes: %.4g ms\n", 1000*elapsed/n)
	return err
}
