//go:build cgo && unix

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/transform"
)

// resample makes bins of a second, and puts them into another table, beside pandas
// with the same rows in a file.
func (b *bench) resample() (err error) {
	batch := trades(0, b.rows)
	if err := writeParquet(filepath.Join(b.dir, "rows.parquet"), batch); err != nil {
		return err
	}
	engine, err := duck.New(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return b.store(&tables.Options{Engine: engine, FoldAge: -1}, func(s *tables.Store) error {
		if err := b.put(s, "t", batch); err != nil {
			return err
		}
		pandas, err := b.peer("pandas", "resample")
		if err != nil {
			return err
		}
		for _, function := range []string{"mean", "ohlc", "median"} {
			took, err := b.median(func() (time.Duration, error) {
				start := time.Now()
				_, err := transform.Resample(b.ctx, s, &transform.ResampleOptions{
					Source: transform.TableName{Bucket: "b", Name: "t"}, Target: transform.TableName{Bucket: "b", Name: function}, Mode: tables.PutReplace,
					Rule: "s", TimeColumn: "at", Functions: []string{function}, Columns: []string{"price"},
				})
				return time.Since(start), err
			})
			if err != nil {
				return err
			}
			fmt.Printf("resample %d rows to seconds, %s: %v; pandas %.3f s: ours is %.2f × as fast\n", b.rows, function, took, pandas[function], pandas[function]/took.Seconds())
			job := fmt.Sprintf("resample %d rows to seconds, %s", b.rows, function)
			if err := errors.Join(b.figure(job, "tables", took.Seconds(), b.rounds), b.figure(job, "pandas", pandas[function], b.rounds)); err != nil {
				return err
			}
		}
		return nil
	})
}
