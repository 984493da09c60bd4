package commit

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// state is what appends need to know of a table, as of one location of its metadata.
type state struct {
	location string
	uuid     string
	version  int64
	folded   int64                  // the last epoch that is in the files
	def      *definition.Definition // nil if the table does not exist
}

// Current returns the table as it is now, nil if there is none.
func (e *Entry) Current(ctx context.Context) (*table.Table, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) {
		return nil, nil
	}
	return t, err
}

// Waiting reports whether rows of the table are in the tail alone.
func (e *Entry) Waiting(ctx context.Context) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil || e.log == nil {
		return false, err
	}
	rows, _, _, _ := e.log.Size(e.state.folded)
	return rows > 0, nil
}

// refresh brings the state up to what the catalog says now. It wants mu.
func (e *Entry) refresh(ctx context.Context) error {
	loc, rules, err := e.of.Catalog.Lookup(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.lose()
		return nil
	}
	e.bucketRules = rules
	if err != nil || loc == e.state.location {
		return err
	}
	_, err = e.load(ctx)
	return err
}

// set makes a table the state. It wants mu.
func (e *Entry) set(ctx context.Context, t *table.Table) error {
	var n state
	err := icecat.Safely(func() (err error) { n, err = e.stateOf(t); return err })
	if err != nil {
		return &icecat.Damaged{File: e.of.Catalog.Shown(t.MetadataLocation()), Err: err, Remedy: icecat.Unusable}
	}
	if e.log != nil && e.log.UUID() != n.uuid {
		e.lose()
	}
	if e.log == nil && e.of.Tail != nil {
		// It may have had another name, or could not be read before.
		if e.log, err = e.of.Tail.Claim(ctx, n.uuid, n.folded); err != nil {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			return &icecat.Damaged{File: "its rows in the tail", Err: err, Remedy: icecat.Unusable}
		}
	}
	if e.log != nil {
		// Another Store may have applied puts with the same ids.
		applied, err := e.of.Catalog.PutsApplied(ctx, n.uuid, slices.Collect(maps.Keys(e.log.IDs(n.folded, lastEpoch)))...)
		if err != nil {
			return err
		}
		e.log.Void(applied)
	}
	e.state = n
	return nil
}

// stateOf returns the state that a table's metadata says.
func (e *Entry) stateOf(t *table.Table) (n state, err error) {
	meta := t.Metadata()
	n = state{location: t.MetadataLocation(), uuid: meta.TableUUID().String(), folded: -1}
	if s := meta.CurrentSnapshot(); s != nil {
		n.version = s.SequenceNumber
	}
	if e.of.Tail != nil {
		n.folded = e.of.Tail.Folded(meta.Properties())
	}
	n.def, err = definition.Of(meta)
	return n, err
}

// lose lets go of a table that somebody else deleted or renamed. What it has in
// the tail stays there, for an entry with its new name, or the next Open, to find
// out which. It wants mu.
func (e *Entry) lose() {
	e.state = state{}
	if e.log != nil {
		e.log.Release()
		e.log = nil
	}
}
