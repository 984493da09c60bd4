// Command airports puts a CSV file into a table and reads the table with a filter.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/apache/arrow-go/v18/arrow/csv"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

func main() {
	if err := run(context.Background(), "../testdata/airports.csv"); err != nil {
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
	rows := csv.NewInferringReader(file, csv.WithHeader(true), csv.WithChunk(1024))
	defer rows.Release()
	table := store.Bucket("FAA").Table("airports")
	if _, err := table.Put(ctx, rows, tables.PutError, nil); err != nil {
		return err
	}

	cond, err := filter.Parse("latitude > 70 or state = 'HI' and longitude < -159.5")
	if err != nil {
		return err
	}
	for b, err := range table.Batches(ctx, &tables.ScanOptions{Filter: cond, Columns: []string{"iata", "name", "state"}}) {
		if err != nil {
			return err
		}
		for i := range int(b.NumRows()) {
			fmt.Println(b.Column(0).ValueStr(i), b.Column(1).ValueStr(i), b.Column(2).ValueStr(i))
		}
	}
	return nil
}
