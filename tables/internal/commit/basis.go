package commit

import (
	"errors"
	"reflect"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Basis is the state that a step's files were written for: the table, its columns, row order and snapshot. The
// files are valid as long as the basis holds.
type Basis struct {
	UUID    string
	schema  int
	columns int               // the highest column ID
	Order   *definition.Order // nil if rows have no order
	Base    *int64            // the snapshot that was read, or nil

	Since Since          // changes allowed after Base
	IO    *icecat.FileIO // the files were written through it
}

// Since is the kind of change that may be committed after a step's base snapshot.
type Since int

const (
	Anything Since = iota // the step does not depend on the rows
	Appends               // only rows were added; none was deleted or replaced
	Nothing
)

// BasisOf returns the basis for files that are written for a table's current state.
func BasisOf(t *table.Table, s Since, io *icecat.FileIO) (Basis, error) {
	meta := t.Metadata()
	d, err := definition.Of(meta)
	if err != nil {
		return Basis{}, err
	}
	return Basis{meta.TableUUID().String(), meta.CurrentSchema().ID, meta.LastColumnID(), d.Order, SnapshotID(t), s, io}, nil
}

// Holds returns ErrStale if the files no longer fit the table.
func (b *Basis) Holds(cur *table.Table) error { return b.holds(cur, cur) }

// Holds is like Basis.Holds, for a table whose columns earlier steps of the attempt may have changed.
func (a *Attempt) Holds(b *Basis, cur *table.Table) error {
	if a.before == nil || a.tailRows { // a step created the table, or added rows from the tail that this basis does not include
		return b.Holds(cur)
	}
	return b.holds(a.before, cur)
}

// holds checks the basis against cur. The rows were last committed with the metadata of was.
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

// Fits reports whether rows written on one basis fit a table in the state of another.
func (b *Basis) Fits(now *Basis) bool {
	return b.UUID == now.UUID && b.schema == now.schema && b.columns == now.columns && b.Order.Same(now.Order)
}

// RetryStale calls f up to limit times, as long as it returns ErrStale.
func RetryStale(limit int, f func() error) error {
	for range limit {
		if err := f(); !errors.Is(err, ErrStale) {
			return err
		}
	}
	return ErrConflict
}

// SnapshotID returns the ID of a table's newest snapshot, or nil if there is none.
func SnapshotID(t *table.Table) *int64 {
	if s := t.CurrentSnapshot(); s != nil {
		return &s.SnapshotID
	}
	return nil
}

// onlyAppended reports whether all changes of a table since a snapshot only added rows.
func onlyAppended(t *table.Table, base int64) bool {
	for s := t.CurrentSnapshot(); s == nil || s.SnapshotID != base; {
		if s == nil || s.Summary == nil || s.Summary.Operation != table.OpAppend || s.ParentSnapshotID == nil {
			return false
		}
		s = t.SnapshotByID(*s.ParentSnapshotID)
	}
	return true
}
