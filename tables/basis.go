package tables

import (
	"errors"
	"reflect"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// basis is what the files of a step were written for: a table, its columns, the
// order of its rows, and the rows that were read. As long as it holds, the files fit.
type basis struct {
	uuid    string
	schema  int
	columns int               // the last id of a column
	order   *definition.Order // nil: none
	base    *int64            // the snapshot that was read; nil: there was none

	since since          // what may have been committed after base
	io    *icecat.FileIO // that the files were written through
}

// since says what may be committed after the snapshot that a step is based on.
type since int

const (
	anything since = iota // the step does not depend on the rows
	appends               // rows that were added, and none deleted or replaced
	nothing
)

// basisOf is the basis of files that are written for a table as it is.
func basisOf(t *table.Table, s since, io *icecat.FileIO) (basis, error) {
	meta := t.Metadata()
	d, err := definition.Of(meta)
	if err != nil {
		return basis{}, err
	}
	return basis{meta.TableUUID().String(), meta.CurrentSchema().ID, meta.LastColumnID(), d.Order, snapshotID(t), s, io}, nil
}

// holds returns errStale where the files do not fit the table any more.
func (b *basis) holds(cur *table.Table) error {
	if cur == nil {
		return errStale
	}
	now, err := basisOf(cur, b.since, b.io)
	if err != nil {
		return err
	}
	same := reflect.DeepEqual(now.base, b.base)
	if !b.fits(&now) || b.since == nothing && !same || b.since == appends && !same && (b.base == nil || !onlyAppended(cur, *b.base)) {
		return errStale
	}
	return nil
}

// fits reports whether rows that were written on one basis fit a table that is as
// another says.
func (b *basis) fits(now *basis) bool {
	return b.uuid == now.uuid && b.schema == now.schema && b.columns == now.columns && b.order.Same(now.order)
}

// wrote returns what the step's files were written through; nil: it has none.
func (b *basis) wrote() *icecat.FileIO { return b.io }

// filer is a step whose files were written before.
type filer interface{ wrote() *icecat.FileIO }

// removeFiles removes what was written for steps that, by err, were not committed.
func removeFiles(err error, steps []step) {
	for _, st := range steps {
		if f, ok := st.(filer); ok && f.wrote() != nil {
			removeWritten(err, f.wrote())
		}
	}
}

// removeWritten removes what was written for a commit that failed. Where that is not
// known, Expire decides.
func removeWritten(err error, io *icecat.FileIO) {
	if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
		io.RemoveWritten()
	}
}

// retryStale calls f again while others change what its files were written for.
func retryStale(most int, f func() error) error {
	for range most {
		if err := f(); !errors.Is(err, errStale) {
			return err
		}
	}
	return ErrConflict
}

func snapshotID(t *table.Table) *int64 {
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
