package tables

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
)

// step is a part of a change of one table. What it needs of files is written
// before; apply puts it on top of a state of the table, once for each attempt to
// commit.
type step interface {
	// apply returns the table after the step; nil if it is deleted. Cur is nil
	// if the table does not exist.
	apply(ctx context.Context, a *attempt, cur *table.Table) (table.Metadata, error)
}

// attempt is one attempt to commit a change of a table.
type attempt struct {
	s      *Store
	e      *entry
	change *change
	io     *icecat.FileIO // of the attempt: manifests and metadata
	info   icecat.Info    // of the listing
	ids    []icecat.PutID
	now    time.Time

	tailDone bool           // a step made files of what is in the tail
	lost     bool           // the table is there, and damaged
	inline   bool           // the metadata is small, and kept by the database
	epoch    *int64         // of the tail, up to which it is replaced; nil: none
	made     *icecat.Change // nil: there is nothing to do
}

var (
	// errStale says that a put must be looked at anew, since the table is not
	// what it was when its files were written.
	errStale = errors.New("the table was made, replaced or deleted meanwhile")
	// errNeedsCommit says that a put does not go to the tail: where it could be refused
	// for what others put, or changes columns, one commit decides.
	errNeedsCommit = errors.New("the put is a commit of its own")
	// errNothing says that a change has nothing to do.
	errNothing = errors.New("there is nothing to do")
)

// putStep adds or replaces rows. Its files are written.
type putStep struct {
	basis
	mode     PutMode
	files    []iceberg.DataFile
	id       string
	meta     Metadata
	settings *Settings
	made     table.Metadata // the table, if the put makes it
	after    table.Metadata // the table after it, but for its files
	shape    *schema.Shape  // the new schema, if the put replaces it
	over     *over          // what a put replaces that does not replace all
}

func (p *putStep) apply(ctx context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if p.id != "" {
		if slices.ContainsFunc(a.ids, func(before icecat.PutID) bool { return before.ID == p.id }) {
			return nil, errNothing
		}
		if cur != nil {
			if applied, err := a.e.applied(ctx, cur.Metadata().TableUUID().String(), p.id); applied || err != nil {
				return nil, cmp.Or(err, errNothing)
			}
		}
		a.ids = append(a.ids, icecat.PutID{ID: p.id, At: a.now})
	}
	if (cur == nil) != (p.made != nil) {
		return nil, errStale
	}
	a.info.Updated = a.now
	if cur == nil || p.mode == Replace && p.over == nil {
		a.info.Metadata = p.meta
	}
	if cur == nil {
		made := a.table(p.made)
		return addFiles(ctx, made, p.files, nil)
	}
	if p.over != nil {
		return p.over.apply(ctx, a, cur, p)
	}
	if p.mode != Replace {
		if err := p.holds(cur); err != nil {
			return nil, err
		}
		return a.addOrdered(ctx, cur, p.files, nil, false)
	}
	old, err := datafile.Files(ctx, cur)
	if err != nil {
		return nil, err
	}
	if cur, err = p.emptied(a, cur); err == nil {
		err = p.holds(cur)
	}
	if err != nil {
		return nil, err
	}
	return replaceFiles(ctx, cur, old, p.files, nil)
}

// emptied returns a table with the columns and settings of a put that replaces it.
func (p *putStep) emptied(a *attempt, cur *table.Table) (*table.Table, error) {
	meta, err := cur.Metadata(), error(nil)
	if p.shape != nil {
		if p.shape.LastID != meta.LastColumnID() {
			return nil, errStale
		}
		if meta, err = definition.Reshaped(meta, p.shape); err != nil {
			return nil, err
		}
	}
	if meta, err = definition.WithSettings(meta, p.settings); err != nil {
		return nil, err
	}
	return a.table(meta), nil
}

// addFiles adds files, and properties with them.
func addFiles(ctx context.Context, t *table.Table, files []iceberg.DataFile, props iceberg.Properties) (table.Metadata, error) {
	tx := t.NewTransaction()
	if props != nil {
		if err := tx.SetProperties(props); err != nil {
			return nil, err
		}
	}
	files, err := datafile.WithRowIDs(t, files)
	if err != nil {
		return nil, err
	}
	if err := tx.AddDataFiles(ctx, files, nil, table.WithoutAutoNameMapping(), table.WithoutDuplicateCheck()); err != nil {
		return nil, err
	}
	return metadataOf(tx)
}

func metadataOf(tx *table.Transaction) (table.Metadata, error) {
	t, err := tx.StagedTable()
	if err != nil {
		return nil, err
	}
	return t.Metadata(), nil
}

// foldStep adds the rows of the tail's epochs up to one, whose files are written.
type foldStep struct {
	basis
	files  []iceberg.DataFile
	kept   *arrow.Schema
	epoch  int64
	ids    map[string]time.Time
	update time.Time
}

func (f *foldStep) apply(ctx context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if err := f.holds(cur); err != nil {
		return nil, err
	}
	if a.s.tail.Folded(cur.Properties()) >= f.epoch {
		return nil, errNothing // an earlier fold, whose outcome was unknown, took effect
	}
	// A put that another Store applied meanwhile must not count twice.
	applied, err := a.s.cat.PutsApplied(ctx, f.uuid, slices.Collect(maps.Keys(f.ids))...)
	if err != nil || len(applied) > 0 {
		return nil, cmp.Or(err, errStale)
	}
	a.discard(f.ids)
	if f.update.After(a.info.Updated) {
		a.info.Updated = f.update
	}
	return a.addOrdered(ctx, cur, f.files, a.s.epochProperty(f.epoch), true)
}

// epochProperty says in a table's properties which epochs of the tail are in its files.
func (s *Store) epochProperty(epoch int64) iceberg.Properties {
	if s.hooks.noEpoch {
		return nil
	}
	return iceberg.Properties{s.tail.Property(): strconv.FormatInt(epoch, 10)}
}

// discard keeps the ids of puts whose rows leave the tail.
func (a *attempt) discard(ids map[string]time.Time) {
	for id, at := range ids {
		a.ids = append(a.ids, icecat.PutID{ID: id, At: at})
	}
}

// epochStep says that the tail's epochs up to one count no more: their rows were
// replaced.
type epochStep struct {
	epoch int64
	ids   map[string]time.Time
}

func (e *epochStep) apply(_ context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if cur == nil { // somebody else deleted the table
		return nil, errNothing
	}
	a.discard(e.ids)
	return table.UpdateTableMetadata(cur.Metadata(), []table.Update{table.NewSetPropertiesUpdate(a.s.epochProperty(e.epoch))}, "")
}

// deleteStep deletes the table.
type deleteStep struct{}

func (deleteStep) apply(_ context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if cur == nil && !a.lost {
		return nil, ErrNotFound
	}
	return nil, nil
}
