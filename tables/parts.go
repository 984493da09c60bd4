package tables

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/take"
)

// Parts returns in how many parts a scan may read the table, one at least and about one
// for each data file: see [ScanOptions.Part]. Scans of parts that belong together are
// those of one version or snapshot.
func (t *Table) Parts(ctx context.Context) (int, error) {
	return look(ctx, t, "read the parts of", func(v *view) (int, error) {
		cuts, paths, err := v.parts(ctx)
		return max(1, len(paths), len(cuts)+1), err
	})
}

// parts returns where parts are cut: by times if the rows have an order, else there is one
// for each data file, in the order in which they are read.
func (v *view) parts(ctx context.Context) (cuts []time.Time, paths []string, err error) {
	if v.series != nil {
		cuts, err = v.series.Begins(ctx)
		return cuts, nil, err
	}
	tasks, err := v.tasks(ctx)
	for _, task := range tasks {
		paths = append(paths, task.File.FilePath())
	}
	return nil, paths, err
}

// part restricts the scan to one part, counted from 1.
func (r *reader) part(o *ScanOptions) error {
	if !o.From.IsZero() || !o.To.IsZero() || o.Last > 0 {
		return errors.New("option Part excludes From, To and Last")
	}
	cuts, paths, err := r.parts(r.ctx)
	n := int64(max(1, len(paths), len(cuts)+1))
	if err == nil && (o.Part > n || o.Part < 1) {
		err = fmt.Errorf("option Part is %d, and the table has the parts 1 to %d", o.Part, n)
	}
	if err != nil {
		return err
	}
	if r.series == nil {
		if len(paths) > 0 {
			r.from, r.to = int(o.Part-1), int(o.Part)
		}
		if o.Part < n {
			take.Release(r.rows)
			r.rows = nil
		}
		return nil
	}
	cuts = append(append([]time.Time{{}}, cuts...), time.Time{})
	only, err := series.TimeRange(r.def.Logical, r.series.Names[0], cuts[o.Part-1], cuts[o.Part])
	if err == nil && only != nil {
		r.filters = append(r.filters, only)
	}
	return err
}
