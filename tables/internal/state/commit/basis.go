package commit

import (
	"errors"
	"reflect"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// Basis is the table state for which a step's files were written. The files can be committed only while the table
// matches this state.
type Basis struct {
	UUID         string
	Definition   *definition.Definition
	lastColumnID int
	Base         *int64 // ID of the snapshot that was read; nil if the table had no snapshot

	Allowed AllowedChanges // row changes after Base for which the files stay valid
	IO      *icecat.FileIO // writes the files
}

// AllowedChanges says which row changes others may commit after a step's base snapshot without invalidating its files.
type AllowedChanges int

const (
	AnyChanges      AllowedChanges = iota // the step does not depend on existing rows
	NoDeletions                           // rows can be added and files merged, but rows must not be deleted or replaced
	OnlyAdditions                         // rows can be added, but not deleted or replaced, and files must not be merged
	OnlyAppends                           // like OnlyAdditions, except for rows added by a correction, such as an upsert of new keys
	OnlyCompactions                       // files can be merged, but the rows must not change
	NoChanges                             // the snapshot must still be Base
)

// BasisOf returns the basis for files that are written for a table's current state.
func BasisOf(t *table.Table, allowed AllowedChanges, fileIO *icecat.FileIO) (Basis, error) {
	meta := t.Metadata()
	d, err := definition.FromMetadata(meta)
	if err != nil {
		return Basis{}, err
	}
	return Basis{meta.TableUUID().String(), d, meta.LastColumnID(), SnapshotID(t), allowed, fileIO}, nil
}

// CheckFresh returns ErrStale if files written for b are no longer valid for the table cur.
func (b *Basis) CheckFresh(cur *table.Table) error { return b.checkFreshSince(cur, cur) }

// CheckFresh is like Basis.CheckFresh, but ignores the snapshots that earlier steps of the attempt added to cur.
func (a *Attempt) CheckFresh(b *Basis, cur *table.Table) error {
	if a.initial == nil || a.hasTailRows { // an earlier step created the table, or added rows from the tail
		return b.CheckFresh(cur)
	}
	return b.checkFreshSince(a.initial, cur)
}

// checkFreshSince is like Basis.CheckFresh, but compares b's snapshot with that of base, an earlier state of cur.
func (b *Basis) checkFreshSince(base, cur *table.Table) error {
	if cur == nil {
		return ErrStale
	}
	current, err := BasisOf(cur, b.Allowed, b.IO)
	if err != nil {
		return err
	}
	current.Base = SnapshotID(base)
	sameSnapshot := reflect.DeepEqual(current.Base, b.Base)
	if !b.Matches(&current) || b.Allowed != AnyChanges && !sameSnapshot && (b.Allowed == NoChanges || b.Base == nil || !b.allowsSince(base)) {
		return ErrStale
	}
	return nil
}

// Matches reports whether rows written for the basis b are valid for a table in the state current.
func (b *Basis) Matches(current *Basis) bool {
	return b.UUID == current.UUID && b.Definition.Columns.ID == current.Definition.Columns.ID && b.lastColumnID == current.lastColumnID &&
		b.Definition.Order.Equal(current.Definition.Order)
}

// RetryStale calls f, at most limit times, until it returns nil or an error other than ErrStale.
func RetryStale(limit int, f func() error) error {
	for range limit {
		if err := f(); !errors.Is(err, ErrStale) {
			return err
		}
	}
	return ErrConflict
}

// SnapshotID returns the ID of a table's current snapshot, or nil if the table has no snapshot.
func SnapshotID(t *table.Table) *int64 {
	if s := t.CurrentSnapshot(); s != nil {
		return &s.SnapshotID
	}
	return nil
}

// allowsSince reports whether b.Allowed allows all commits to t since b.Base.
func (b *Basis) allowsSince(t *table.Table) bool {
	allows := func(o table.Operation) bool {
		return o == table.OpAppend && b.Allowed != OnlyCompactions || o == table.OpReplace && (b.Allowed == OnlyCompactions || b.Allowed == NoDeletions)
	}
	for s := t.CurrentSnapshot(); s == nil || s.SnapshotID != *b.Base; {
		if s == nil || s.Summary == nil || !allows(s.Summary.Operation) || s.ParentSnapshotID == nil {
			return false
		}
		if b.Allowed == OnlyAppends && s.Summary.Properties[correctionProperty] != "" {
			return false
		}
		s = t.SnapshotByID(*s.ParentSnapshotID)
	}
	return true
}
