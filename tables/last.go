package tables

import (
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// limitToLast limits a scan to its last n rows. It estimates a start time from the files' bounds and moves it back
// until at least n rows have the start time or a later one.
func (r *rowScan) limitToLast(n int64) error {
	if r.series == nil {
		return r.limitToLastFiles(n)
	}
	filters := r.filters
	for estimate := n; ; estimate *= 8 {
		r.filters = slices.Clone(filters)
		start, err := r.series.LastRowsFilter(r.ctx, estimate, r.rows)
		if err != nil {
			return err
		}
		if start != nil {
			r.filters = append(r.filters, start)
		}
		count, err := r.view.reader(r.ctx, r.filters...).count(r.series.Names)
		if err != nil {
			return err
		}
		if count >= n || len(r.filters) == len(filters) || estimate > math.MaxInt64/8 {
			r.skip = max(0, count-n)
			return nil
		}
	}
}

// limitToLastFiles is limitToLast for tables without a sort order. It counts rows until it has at least n: first the
// rows that are not yet in files, and then those in files, newest file first.
func (r *rowScan) limitToLastFiles(n int64) error {
	tasks, err := r.tasks(r.ctx)
	if err != nil {
		return err
	}
	firstColumn := schema.Names(r.def.Logical)[:1]
	r.firstFile = len(tasks)
	count := func(files *view, from, to int) (rows int64, err error) {
		c := files.reader(r.ctx, r.filters...)
		c.firstFile, c.endFile = from, to
		return c.count(firstColumn)
	}
	total, err := count(r.view, len(tasks), len(tasks))
	noTail := *r.view
	noTail.rows = nil
	useCounts := len(r.filters) == 0 // whether to use the row counts in the files' metadata
	for step := 1; err == nil && total < n && r.firstFile > 0; step *= 2 {
		to := r.firstFile
		if useCounts {
			step = 1
		}
		r.firstFile = max(0, to-step)
		var rows int64
		useCounts = useCounts && !datafile.HasDeletes(tasks[r.firstFile])
		if useCounts {
			rows, err = datafile.RowsOf(r.ctx, r.t, tasks[r.firstFile])
		} else {
			rows, err = count(&noTail, r.firstFile, to)
		}
		total += rows
	}
	r.skip = max(0, total-n)
	if useCounts && r.firstFile < len(tasks) {
		r.skip, r.skipInFile = 0, r.skip
	}
	return err
}

// count returns the number of rows that match the filters. It reads the given columns and the filters' columns.
func (r *rowScan) count(columns []string) (count int64, err error) {
	if err := r.plan(columns); err != nil {
		return 0, err
	}
	err = batches.ForEach(r.batches, func(b arrow.RecordBatch) error {
		count += b.NumRows()
		return nil
	})
	return count, err
}
