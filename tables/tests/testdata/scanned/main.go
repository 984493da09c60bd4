// Command scanned scans a table that has some rows in a file and some in the tail, and writes
// coverage data of the scan to the directory in its first argument. With a second argument, it only
// calls Table.Scan, and does not read the rows.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"runtime/coverage"
	"time"

	"github.com/go-partd/partd/tables"
)

type trade struct {
	At    time.Time `arrow:"at"`
	Sym   string    `arrow:"sym"`
	Price float64   `arrow:"price"`
}

func main() {
	if err := run(os.Args[1], len(os.Args) > 2); err != nil {
		log.Fatal(err)
	}
}

func run(dir string, opened bool) error {
	ctx := context.Background()
	store, err := tables.Open(ctx, filepath.Join(dir, "tables"), nil)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // the test removes the directory
	rows := make([]trade, 50_000)
	for i := range rows {
		rows[i] = trade{time.Unix(int64(i), 0), "A", 1}
	}
	table := store.Bucket("").Table("trades")
	for _, part := range [][]trade{rows, rows[:3]} {
		if _, err := store.Fold(ctx, nil); err != nil {
			return err
		}
		if _, err := tables.Append(ctx, table, part); err != nil {
			return err
		}
	}
	for range 3 { // let background work from the appends finish before coverage is counted
		runtime.GC()
		time.Sleep(100 * time.Millisecond)
	}
	if err := coverage.ClearCounters(); err != nil {
		return err
	}
	r, err := store.Bucket("").Table("trades").Scan(ctx, nil)
	if err != nil {
		return err
	}
	read := int64(0)
	for !opened && r.Next() {
		read += r.RecordBatch().NumRows()
	}
	if want := int64(len(rows) + 3); !opened && (read != want || r.Err() != nil) {
		return fmt.Errorf("the scan returned %d rows, want %d; error: %v", read, want, r.Err())
	}
	r.Release()
	if err := coverage.WriteMetaDir(dir); err != nil {
		return err
	}
	return coverage.WriteCountersDir(dir)
}
