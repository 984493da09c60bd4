//go:build cgo && unix

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/tables"
)

// measureWriters appends single rows, each synced, from several concurrent writers: to one table, and
// to one table per writer. The cases take turns, and each round also measures a single writer
// for comparison.
func (b *bench) measureWriters() error {
	const during = 2 * time.Second
	counts := []int{1, 8, 32}
	for _, ownTables := range []bool{false, true} {
		speeds, ratios := map[int][]float64{}, map[int][]float64{}
		for range b.rounds {
			for _, n := range counts {
				speed, err := b.writeConcurrently(n, ownTables, during)
				if err != nil {
					return err
				}
				speeds[n] = append(speeds[n], speed)
				ratios[n] = append(ratios[n], speed/speeds[1][len(speeds[1])-1])
			}
		}
		where := "one table"
		if ownTables {
			where = "a table each"
		}
		for _, n := range counts {
			slices.Sort(speeds[n])
			slices.Sort(ratios[n])
			job := fmt.Sprintf("append 1 row to %s, synced; writers: %d", where, n)
			speed := speeds[n][b.rounds/2]
			fmt.Printf("%s: %.0f rows/s, %.1f × as many as one writer\n", job, speed, ratios[n][b.rounds/2])
			if err := b.writeFigure(job, "tables", 1/speed, b.rounds); err != nil {
				return err
			}
		}
	}
	elapsed, err := b.median(b.diskSync)
	fmt.Printf("syncing a file after a write of 512 bytes: %v\n", elapsed)
	return err
}

func (b *bench) writeConcurrently(n int, ownTables bool, during time.Duration) (speed float64, err error) {
	return speed, b.withStore(&tables.Options{Sync: true, FoldAge: -1}, func(s *tables.Store) error {
		row := trades(0, 1)
		name := func(i int) string {
			if ownTables {
				return fmt.Sprint("t", i)
			}
			return "t"
		}
		if err := b.repeat(n, func(i int) error { return b.put(s, name(i), row) }); err != nil {
			return err
		}
		var rows atomic.Int64
		var wg sync.WaitGroup
		errs := make([]error, n)
		start := time.Now()
		for i := range n {
			wg.Go(func() {
				for time.Since(start) < during && errs[i] == nil {
					errs[i] = b.put(s, name(i), row)
					rows.Add(1)
				}
			})
		}
		wg.Wait()
		speed = float64(rows.Load()) / time.Since(start).Seconds()
		return errors.Join(errs...)
	})
}

// diskSync returns the time of one sync of a file that does not grow.
func (b *bench) diskSync() (elapsed time.Duration, err error) {
	const n = 200
	f, err := os.CreateTemp(b.dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // the file is removed
	if err := f.Truncate(1 << 20); err != nil {
		return 0, err
	}
	start := time.Now()
	err = b.repeat(n, func(i int) error {
		if _, err := f.WriteAt(make([]byte, 512), int64(i)*512); err != nil {
			return err
		}
		return f.Sync()
	})
	return time.Since(start) / n, err
}
