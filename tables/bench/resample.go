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

// measureResample resamples rows to bins of one second, and puts the bins into another table. It does so for
// a table without an order and for a time series, and compares both with pandas, which reads the rows from a file.
func (b *bench) measureResample() (err error) {
	batch := trades(0, b.rows)
	if err := writeParquet(filepath.Join(b.dir, "rows.parquet"), batch); err != nil {
		return err
	}
	engine, err := duck.New(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return b.withStore(&tables.Options{Engine: engine, FoldAge: -1}, func(s *tables.Store) error {
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
		pandas, err := b.runPeer("pandas", "resample")
		if err != nil {
			return err
		}
		for _, function := range []string{"mean", "ohlc", "median"} {
			if err := b.compareResample(s, "series", function, ", of a series", pandas[function]); err != nil {
				return err
			}
			if err := b.compareResample(s, "t", function, "", pandas[function]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) compareResample(s *tables.Store, source, function, suffix string, pandas float64) error {
	elapsed, err := b.median(func() (time.Duration, error) {
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
	job := fmt.Sprintf("resample %d rows to seconds%s, %s", b.rows, suffix, function)
	fmt.Printf("%s: %v; pandas %.3f s: ours is %.2f × as fast\n", job, elapsed, pandas, pandas/elapsed.Seconds())
	return errors.Join(b.writeFigure(job, "tables", elapsed.Seconds(), b.rounds), b.writeFigure(job, "pandas", pandas, b.rounds))
}
