package tables

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
)

// step is a part of a change of one table. What it needs of files is written
// before; stage puts it on top of a state of the table, once for each attempt to
// commit.
type step interface {
	// stage returns the table after the step; nil if it is deleted. Cur is nil
	// if the table does not exist.
	stage(ctx context.Context, st *staging, cur *table.Table) (table.Metadata, error)
}

// staging is an attempt to commit a change of one table.
type staging struct {
	s    *Store
	e    *entry
	io   *icecat.FileIO // of the attempt: manifests and metadata
	info icecat.Info    // of the listing
	ids  []icecat.PutID
	now  time.Time

	tailDone bool // a step made files of what is in the tail
	lost     bool // the table is there, and damaged
}

var (
	// errRestage says that a put must be looked at anew, since the table is not
	// what it was when its files were written.
	errRestage = errors.New("the table was made, replaced or deleted meanwhile")
	// errCommitted says that a put does not go to the tail: where it could be refused
	// for what others put, or changes columns, one commit decides.
	errCommitted = errors.New("the put is a commit of its own")
	// errNothing says that a change has nothing to do.
	errNothing = errors.New("there is nothing to do")
)

// putStep adds or replaces rows. Its files are written.
type putStep struct {
	mode     PutMode
	files    []iceberg.DataFile
	io       *icecat.FileIO
	id       string
	meta     Metadata
	settings *Settings
	made     table.Metadata // the table, if the put makes it
	after    table.Metadata // the table after it, but for its files
	shape    *schema.Shape  // the new schema, if the put replaces it
	over     *over          // what a put replaces that does not replace all
	order    *order         // of the table that the files were written for; nil: none
	uuid     string         // the table and its schema that the files were written for, else
	schema   int
	alone    bool   // the rows were compared with those of base: no others may come in between
	base     *int64 // a snapshot; nil: there was none
}

func (p *putStep) stage(ctx context.Context, st *staging, cur *table.Table) (table.Metadata, error) {
	if p.id != "" {
		if slices.ContainsFunc(st.ids, func(before icecat.PutID) bool { return before.ID == p.id }) {
			return nil, errNothing
		}
		if cur != nil {
			if applied, err := st.e.applied(ctx, cur.Metadata().TableUUID().String(), p.id); applied || err != nil {
				return nil, cmp.Or(err, errNothing)
			}
		}
		st.ids = append(st.ids, icecat.PutID{ID: p.id, At: st.now})
	}
	if (cur == nil) != (p.made != nil) {
		return nil, errRestage
	}
	st.info.Updated = st.now
	if cur == nil || p.mode == Replace && p.over == nil {
		st.info.Metadata = p.meta
	}
	if cur == nil {
		made := st.s.cat.Staged(st.e.Namespace, st.e.Name, p.made, "", st.io)
		return addFiles(ctx, made, p.files, nil)
	}
	meta := cur.Metadata()
	if meta.TableUUID().String() != p.uuid {
		return nil, errRestage
	}
	if p.over != nil {
		return p.over.stage(ctx, st, cur, p)
	}
	if p.mode != Replace {
		now := snapshotID(cur)
		if meta.CurrentSchema().ID != p.schema || p.alone && ((now == nil) != (p.base == nil) || now != nil && *now != *p.base) {
			return nil, errRestage
		}
		if err := p.sameOrder(meta); err != nil {
			return nil, err
		}
		return st.addOrdered(ctx, p.order, cur, p.files, nil, false)
	}
	old, err := dataFiles(ctx, cur)
	if err != nil {
		return nil, err
	}
	if p.shape != nil {
		if p.shape.LastID != meta.LastColumnID() {
			return nil, errRestage
		}
		if meta, err = definition.Reshaped(meta, p.shape); err != nil {
			return nil, err
		}
	} else if meta.CurrentSchema().ID != p.schema {
		return nil, errRestage
	}
	if meta, err = definition.WithSettings(meta, p.settings); err != nil {
		return nil, err
	}
	if err := p.sameOrder(meta); err != nil {
		return nil, err
	}
	cur = st.s.cat.Staged(st.e.Namespace, st.e.Name, meta, cur.MetadataLocation(), st.io)
	return replaceFiles(ctx, cur, old, p.files, nil)
}

// sameOrder returns errRestage where a table's rows are ordered in another way than
// the files are.
func (p *putStep) sameOrder(meta table.Metadata) error {
	is, err := orderOf(meta)
	if err == nil && !reflect.DeepEqual(is, p.order) {
		err = errRestage
	}
	return err
}

// addFiles stages files, and properties with them.
func addFiles(ctx context.Context, t *table.Table, files []iceberg.DataFile, props iceberg.Properties) (table.Metadata, error) {
	tx := t.NewTransaction()
	if props != nil {
		if err := tx.SetProperties(props); err != nil {
			return nil, err
		}
	}
	files, err := withRowIDs(t, files)
	if err != nil {
		return nil, err
	}
	if err := tx.AddDataFiles(ctx, files, nil, table.WithoutAutoNameMapping(), table.WithoutDuplicateCheck()); err != nil {
		return nil, err
	}
	return staged(tx)
}

func staged(tx *table.Transaction) (table.Metadata, error) {
	t, err := tx.StagedTable()
	if err != nil {
		return nil, err
	}
	return t.Metadata(), nil
}

// foldStep adds the rows of the tail's epochs up to one, whose files are written.
type foldStep struct {
	io     *icecat.FileIO
	files  []iceberg.DataFile
	uuid   string
	schema int
	kept   *arrow.Schema
	order  *order
	epoch  int64
	ids    map[string]time.Time
	update time.Time
}

func (f *foldStep) stage(ctx context.Context, st *staging, cur *table.Table) (table.Metadata, error) {
	if cur == nil || cur.Metadata().TableUUID().String() != f.uuid || cur.Metadata().CurrentSchema().ID != f.schema {
		return nil, errRestage
	}
	if st.s.tail.Folded(cur.Properties()) >= f.epoch {
		return nil, errNothing // an earlier fold, whose outcome was unknown, took effect
	}
	// A put that another Store applied meanwhile must not count twice.
	applied, err := st.s.cat.PutsApplied(ctx, f.uuid, slices.Collect(maps.Keys(f.ids))...)
	if err != nil || len(applied) > 0 {
		return nil, cmp.Or(err, errRestage)
	}
	st.discard(f.ids)
	if f.update.After(st.info.Updated) {
		st.info.Updated = f.update
	}
	if is, err := orderOf(cur.Metadata()); err != nil || !reflect.DeepEqual(is, f.order) {
		return nil, cmp.Or(err, errRestage)
	}
	return st.addOrdered(ctx, f.order, cur, f.files, st.s.epochProperty(f.epoch), true)
}

// epochProperty says in a table's properties which epochs of the tail are in its files.
func (s *Store) epochProperty(epoch int64) iceberg.Properties {
	if s.hooks.noEpoch {
		return nil
	}
	return iceberg.Properties{s.tail.Property(): strconv.FormatInt(epoch, 10)}
}

// discard keeps the ids of puts whose rows leave the tail.
func (st *staging) discard(ids map[string]time.Time) {
	for id, at := range ids {
		st.ids = append(st.ids, icecat.PutID{ID: id, At: at})
	}
}

// epochStep says that the tail's epochs up to one count no more: their rows were
// replaced.
type epochStep struct {
	epoch int64
	ids   map[string]time.Time
}

func (e *epochStep) stage(_ context.Context, st *staging, cur *table.Table) (table.Metadata, error) {
	if cur == nil { // somebody else deleted the table
		return nil, errNothing
	}
	st.discard(e.ids)
	return table.UpdateTableMetadata(cur.Metadata(), []table.Update{table.NewSetPropertiesUpdate(st.s.epochProperty(e.epoch))}, "")
}

// deleteStep deletes the table.
type deleteStep struct{}

func (deleteStep) stage(_ context.Context, st *staging, cur *table.Table) (table.Metadata, error) {
	if cur == nil && !st.lost {
		return nil, ErrNotFound
	}
	return nil, nil
}
