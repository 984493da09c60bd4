//go:build cgo && unix

package main

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// measureResample resamples rows to bins of one second and puts the bins into another table. It does so for
// a table without an order and for a time series. For comparison, pandas reads the rows from a file.
func (b *seriesBench) measureResample() error {
	batch := trades(0, b.rows)
	if err := b.writeRows(batch); err != nil {
		return err
	}
	return b.withSQL(nil, tables.Options{FoldAge: -1}, func(s *tables.Store) error {
		series := &tables.PutOptions{Settings: &tables.Settings{Time: "at"}}
		if err := errors.Join(b.put(s, "t", nil, batch), b.put(s, "series", series, batch)); err != nil {
			return err
		}
		pandas, err := b.runPeer("pandas", "resample")
		if err != nil {
			return err
		}
		for _, function := range []string{"mean", "ohlc", "median"} {
			for _, source := range []string{"series", "t"} {
				elapsed, err := b.median(func() error {
					_, err := transform.Resample(b.ctx, s, &transform.ResampleOptions{
						Source: transform.TableName{Bucket: "b", Name: source}, Target: transform.TableName{Bucket: "b", Name: function}, Mode: tables.PutReplace,
						Rule: "s", TimeColumn: "at", Functions: []string{function}, Columns: []string{"price"},
					})
					return err
				})
				if err != nil {
					return err
				}
				suffix := map[string]string{"series": ", of a series"}[source]
				job := fmt.Sprintf("resample %d rows to seconds%s, %s", b.rows, suffix, function)
				b.report(job, "tables", elapsed, b.rounds)
				b.report(job, "pandas", pandas[function], b.rounds)
			}
		}
		return nil
	})
}
