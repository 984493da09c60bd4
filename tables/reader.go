package tables

import (
	"cmp"
	"context"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// tableReader reads a table in a selected state.
type tableReader struct {
	*core
	bucket, name string
	selection
	err error // why the table cannot be read, such as ErrClosed for a nil Table; otherwise nil
}

// selection is the state of a table that a reader sees. The zero value is the current state.
type selection struct {
	old   *Version // the selected version; nil means the current state
	oldID int64    // ID of the selected version's snapshot
	uuid  string   // the table's UUID when old was selected, to detect that the table was created again

	// the selected snapshot, and the location of the table's metadata in the snapshot; "" if no snapshot is selected
	snapshot, location string
}

// isPinned reports whether a state was selected.
func (s *selection) isPinned() bool { return s.old != nil || s.snapshot != "" }

// check returns the table's name in the catalog, or an error if there is none.
func (r *tableReader) check() (tableName, error) {
	if r.err != nil {
		return tableName{}, r.err
	}
	return checkTable(r.bucket, r.name)
}

func (r *tableReader) error(op string, err error) error {
	return &OpError{Op: op, Bucket: r.bucket, Table: r.name, Err: err}
}

// info describes the table.
func (t *tableReader) info(ctx context.Context) (TableInfo, error) {
	n, err := t.check()
	if err != nil {
		return TableInfo{}, err
	}
	if t.snapshot != "" {
		l, err := t.listedAt(ctx)
		if err != nil {
			return TableInfo{}, err
		}
		return infoOf(l), nil
	}
	l, err := t.cat.Get(ctx, n.Namespace, n.Name)
	if err != nil {
		return TableInfo{}, notFound(ctx, t.cat, n, err)
	}
	i, err := currentInfo(ctx, t.commits, l)
	err = cmp.Or(err, l.Damaged)
	if err == nil && t.old != nil {
		var v *view
		if v, err = t.view(ctx, false); err == nil {
			i.Version, i.Updated = *t.old, commit.TimeOf(v.snapshot)
			i.Rows, i.Bytes, i.Files = icecat.Totals(v.snapshot)
		}
	}
	if err != nil {
		return TableInfo{}, notFound(ctx, t.cat, n, err)
	}
	return i, nil
}
