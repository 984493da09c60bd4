package commit

import (
	"errors"
	"reflect"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Basis is the state of a table for which a step's files were written: its columns, row order and snapshot.
// The files are valid as long as the basis holds.
type Basis struct {
	UUID    string
	schema  int
	columns int               // the highest column ID
	Order   *definition.Order // nil if rows have no order
	Base    *int64            // the snapshot that was read, or nil

	Allowed AllowedChanges // changes of the rows allowed after Base
	IO      *icecat.FileIO // the files were written through it
}

// AllowedChanges says which changes of the rows may be committed after a step's base snapshot.
type AllowedChanges int

const (
	AnyChanges  AllowedChanges = iota // the step does not depend on the rows
	OnlyAppends                       // only rows were added; none was deleted or replaced
	NoChanges
)

// BasisOf returns the basis for files that are written for a table's current state.
func BasisOf(t *table.Table, s AllowedChanges, io *icecat.FileIO) (Basis, error) {
	meta := t.Metadata()
	d, err := definition.FromMetadata(meta)
	if err != nil {
		return Basis{}, err
	}
	return Basis{meta.TableUUID().String(), meta.CurrentSchema().ID, meta.LastColumnID(), d.Order, SnapshotID(t), s, io}, nil
}

// Holds returns ErrStale if the files no longer match the table.
func (b *Basis) Holds(cur *table.Table) error { return b.holds(cur, cur) }

// Holds is like Basis.Holds, for a table whose columns may have been changed by earlier steps of the attempt.
func (a *Attempt) Holds(b *Basis, cur *table.Table) error {
	if a.initial == nil || a.tailRows { // a step created the table, or added rows from the tail, which this basis does not include
		return b.Holds(cur)
	}
	return b.holds(a.initial, cur)
}

// holds checks the basis against cur. base is the table with the last committed rows.
func (b *Basis) holds(base, cur *table.Table) error {
	if cur == nil {
		return ErrStale
	}
	current, err := BasisOf(cur, b.Allowed, b.IO)
	if err != nil {
		return err
	}
	current.Base = SnapshotID(base)
	sameSnapshot := reflect.DeepEqual(current.Base, b.Base)
	if !b.Matches(&current) || b.Allowed == NoChanges && !sameSnapshot || b.Allowed == OnlyAppends && !sameSnapshot && (b.Base == nil || !onlyAppended(base, *b.Base)) {
		return ErrStale
	}
	return nil
}

// Matches reports whether rows written on basis b fit a table in the state current.
func (b *Basis) Matches(current *Basis) bool {
	return b.UUID == current.UUID && b.schema == current.schema && b.columns == current.columns && b.Order.Equal(current.Order)
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
