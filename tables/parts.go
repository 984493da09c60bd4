package tables

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/series"
)

// Parts returns in how many parts a scan may read the table, one at least and about one
// for each data file: see [ScanOptions.Part]. Scans of parts that belong together are
// those of one version or snapshot.
func (t *Table) Parts(ctx context.Context) (int, error) {
	v, err := t.view(ctx, false)
	if err != nil {
		return 0, t.error("read the parts of", err)
	}
	if v.series != nil {
		cuts, err := v.series.Begins(ctx)
		if err != nil {
			return 0, t.error("read the parts of", err)
		}
		return len(cuts) + 1, nil
	}
	paths, err := v.paths(ctx)
	if err != nil {
		return 0, t.error("read the parts of", err)
	}
	return max(1, len(paths)), nil
}

// paths are those of the data files, in the order in which they are read.
func (v *view) paths(ctx context.Context) (paths []string, err error) {
	if v.t.CurrentSnapshot() == nil {
		return nil, nil
	}
	files, err := datafile.Files(ctx, v.t, v.at()...)
	for _, f := range files {
		paths = append(paths, f.FilePath())
	}
	return paths, err
}

// part restricts the scan to one part, counted from 1.
func (r *reader) part(ctx context.Context, v *view, o *ScanOptions) error {
	if !o.From.IsZero() || !o.To.IsZero() || o.Last > 0 {
		return errors.New("option Part excludes From, To and Last")
	}
	none := func(n int) error {
		return fmt.Errorf("option Part is %d, and the table has the parts 1 to %d", o.Part, n)
	}
	if v.series == nil {
		paths, err := v.paths(ctx)
		n := int64(max(1, len(paths)))
		switch {
		case err != nil:
			return err
		case o.Part > n || o.Part < 1:
			return none(int(n))
		case len(paths) > 0:
			r.only = paths[o.Part-1]
		}
		if o.Part < n {
			release(r.tail)
			r.tail = nil
		}
		return nil
	}
	cuts, err := v.series.Begins(ctx)
	n := int64(len(cuts)) + 1
	switch {
	case err != nil:
		return err
	case o.Part > n || o.Part < 1:
		return none(int(n))
	}
	var from, to time.Time
	if o.Part > 1 {
		from = cuts[o.Part-2]
	}
	if o.Part < n {
		to = cuts[o.Part-1]
	}
	only, err := series.TimeRange(v.returned, v.series.Names[0], from, to)
	if err == nil && only != nil {
		r.filters = append(r.filters, only)
	}
	return err
}
