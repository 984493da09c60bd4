//go:build cgo && unix

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/transform"
)

// resample computes bins of one second, and puts them into another table. It does so from a table
// without an order, and from a series. Its peer is pandas with the same rows in a file.
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
		r, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
		if err != nil {
			return err
		}
		defer r.Release()
		series := &tables.PutOptions{Settings: &tables.Settings{Time: "at"}}
		if _, err := s.Bucket("b").Put(b.ctx, "series", r, tables.PutAppend, series); err != nil {
			return err
		}
		pandas, err := b.peer("pandas", "resample")
		if err != nil {
			return err
		}
		for _, function := range []string{"mean", "ohlc", "median"} {
			if err := b.resampled(s, "series", function, ", of a series", pandas[function]); err != nil {
				return err
			}
			if err := b.resampled(s, "t", function, "", pandas[function]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) resampled(s *tables.Store, source, function, what string, pandas float64) error {
	took, err := b.median(func() (time.Duration, error) {
		start := time.Now()
		_, err := transform.Resample(b.ctx, s, &transform.ResampleOptions{
			Source: transform.TableName{Bucket: "b", Name: source}, Target: transform.TableName{Bucket: "b", Name: function}, Mode: tables.PutReplace,
			Rule: "s", TimeColumn: "at", Functions: []string{function}, Columns: []string{"price"},
		})
		return time.Since(start), err
	})
	if err != nil {
		return err
	}
	job := fmt.Sprintf("resample %d rows to seconds%s, %s", b.rows, what, function)
	fmt.Printf("%s: %v; pandas %.3f s: ours is %.2f × as fast\n", job, took, pandas, pandas/took.Seconds())
	return errors.Join(b.figure(job, "tables", took.Seconds(), b.rounds), b.figure(job, "pandas", pandas, b.rounds))
}
