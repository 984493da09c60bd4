// Command scanned scans a table of which some rows are in a file and some in the tail. It
// writes which code that entered: with an argument more, only that of Table.Scan itself.
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
	defer store.Close() //nolint:errcheck // the directory goes with the test
	rows := make([]trade, 50_000)
	for i := range rows {
		rows[i] = trade{time.Unix(int64(i), 0), "A", 1}
	}
	bucket := store.Bucket("")
	for _, part := range [][]trade{rows, rows[:3]} {
		if _, err := store.Fold(ctx, nil); err != nil {
			return err
		}
		if _, err := tables.Append(ctx, bucket, "trades", part); err != nil {
			return err
		}
	}
	table, err := bucket.Table(ctx, "trades")
	if err != nil {
		return err
	}
	for range 3 { // what the appends have left is cleaned up before the count
		runtime.GC()
		time.Sleep(100 * time.Millisecond)
	}
	if err := coverage.ClearCounters(); err != nil {
		return err
	}
	r, err := table.Scan(ctx, nil)
	if err != nil {
		return err
	}
	defer r.Release()
	read := int64(0)
	for !opened && r.Next() {
		read += r.RecordBatch().NumRows()
	}
	if want := int64(len(rows) + 3); !opened && (read != want || r.Err() != nil) {
		return fmt.Errorf("the scan has %d rows, want %d: %v", read, want, r.Err())
	}
	if err := coverage.WriteMetaDir(dir); err != nil {
		return err
	}
	return coverage.WriteCountersDir(dir)
}
