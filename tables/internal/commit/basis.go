package commit

import (
	"errors"
	"reflect"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Basis is what the files of a step were written for: a table, its columns, the
// order of its rows, and the rows that were read. As long as it holds, the files fit.
type Basis struct {
	UUID    string
	schema  int
	columns int               // the last id of a column
	Order   *definition.Order // nil: none
	Base    *int64            // the snapshot that was read; nil: there was none

	Since Since          // what may have been committed after Base
	IO    *icecat.FileIO // that the files were written through
}

// Since says what may be committed after the snapshot that a step is based on.
type Since int

const (
	Anything Since = iota // the step does not depend on the rows
	Appends               // rows that were added, and none deleted or replaced
	Nothing
)

// BasisOf is the basis of files that are written for a table as it is.
func BasisOf(t *table.Table, s Since, io *icecat.FileIO) (Basis, error) {
	meta := t.Metadata()
	d, err := definition.Of(meta)
	if err != nil {
		return Basis{}, err
	}
	return Basis{meta.TableUUID().String(), meta.CurrentSchema().ID, meta.LastColumnID(), d.Order, SnapshotID(t), s, io}, nil
}

// Holds returns ErrStale where the files do not fit the table any more.
func (b *Basis) Holds(cur *table.Table) error { return b.holds(cur, cur) }

// Holds is Basis.Holds where steps before it wrote the rows that are there for other columns.
func (a *Attempt) Holds(b *Basis, cur *table.Table) error {
	if a.was == nil || a.tailRows { // a step made the table, or has added rows that none has seen
		return b.Holds(cur)
	}
	return b.holds(a.was, cur)
}

// holds is Holds for a table whose rows were committed as was has them.
func (b *Basis) holds(was, cur *table.Table) error {
	if cur == nil {
		return ErrStale
	}
	now, err := BasisOf(cur, b.Since, b.IO)
	if err != nil {
		return err
	}
	now.Base = SnapshotID(was)
	same := reflect.DeepEqual(now.Base, b.Base)
	if !b.Fits(&now) || b.Since == Nothing && !same || b.Since == Appends && !same && (b.Base == nil || !onlyAppended(was, *b.Base)) {
		return ErrStale
	}
	return nil
}

// Fits reports whether rows that were written on one basis fit a table that is as
// another says.
func (b *Basis) Fits(now *Basis) bool {
	return b.UUID == now.UUID && b.schema == now.schema && b.columns == now.columns && b.Order.Same(now.Order)
}

// RetryStale calls f again while others change what its files were written for.
func RetryStale(most int, f func() error) error {
	for range most {
		if err := f(); !errors.Is(err, ErrStale) {
			return err
		}
	}
	return ErrConflict
}

// SnapshotID returns that of a table's newest snapshot, nil without one.
func SnapshotID(t *table.Table) *int64 {
	if s := t.CurrentSnapshot(); s != nil {
		return &s.SnapshotID
	}
	return nil
}

// onlyAppended reports whether rows may have been added to a table since a
// snapshot, but none deleted or replaced.
func onlyAppended(t *table.Table, base int64) bool {
	for s := t.CurrentSnapshot(); s == nil || s.SnapshotID != base; {
		if s == nil || s.Summary == nil || s.Summary.Operation != table.OpAppend || s.ParentSnapshotID == nil {
			return false
		}
		s = t.SnapshotByID(*s.ParentSnapshotID)
	}
	return true
}
