// Command birdstrikes puts a CSV file into a store of tables within this process,
// and reads it by a filter.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/formats"
)

func main() {
	if err := run(context.Background(), "../testdata/birdstrikes.csv"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path string) (err error) {
	dir, err := os.MkdirTemp("", "tables")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store, err := tables.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	rows, err := (&formats.Input{Name: path, File: file, Format: formats.CSV}).Read(ctx)
	if err != nil {
		return err
	}
	defer rows.Release()
	bucket := store.Bucket("FAA")
	if _, err := bucket.Put(ctx, "birdstrikes", rows, tables.Error, nil); err != nil {
		return err
	}

	costly, err := filter.Parse(`"Cost Total $" > 3000000 and "Origin State" in ('New York', 'New Jersey', 'Texas')`)
	if err != nil {
		return err
	}
	table, err := bucket.Table(ctx, "birdstrikes")
	if err != nil {
		return err
	}
	found, err := table.Scan(ctx, &tables.ScanOptions{Filter: costly, Columns: []string{"Flight Date", "Origin State", "Cost Total $"}})
	if err != nil {
		return err
	}
	defer found.Release()
	for found.Next() {
		b := found.RecordBatch()
		for i := range int(b.NumRows()) {
			fmt.Println(b.Column(0).ValueStr(i), b.Column(1).ValueStr(i), b.Column(2).ValueStr(i))
		}
	}
	return found.Err()
}
