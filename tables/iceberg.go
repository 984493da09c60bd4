package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/foreign"
)

// FoldOnLoadProperty is the key of a table property. If its value is "false", Load in package iceberg does not first
// fold the table (move the tail's rows to data files).
const FoldOnLoadProperty = foreign.FoldOnLoadProperty

// init lets packages iceberg and rest call unexported methods of this package.
func init() {
	foreign.Grant(&foreign.Access[Store, Table]{
		Load: (*Table).loadIceberg, Stage: (*Table).stageIceberg, Commit: (*Store).commitIceberg,
		Catalog: func(s *Store) *icecat.Catalog { return s.orUnopened().cat },
	})
}

func (t *Table) loadIceberg(ctx context.Context, o *foreign.LoadOptions) (loaded *table.Table, err error) {
	defer wrapError(&err, "load", t.Bucket().Name(), t.Name())
	n, err := t.checkUnpinned()
	if err != nil {
		return nil, err
	}
	cat := t.store().cat
	defer func() {
		if err == nil {
			t.store().keeper.noteLoad(n)
		}
	}()
	loaded, err = cat.Load(ctx, n.Namespace, n.Name)
	if err != nil || o == nil || !o.Fold || t.store().opts.ReadOnly || loaded.Properties()[FoldOnLoadProperty] == "false" {
		return loaded, notFound(ctx, cat, n, err)
	}
	if s := loaded.CurrentSnapshot(); s != nil && o.Every > 0 && time.Since(time.UnixMilli(s.TimestampMs)) < o.Every {
		return loaded, nil
	}
	e, release, err := t.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if hasTail, err := e.HasTail(ctx); err != nil || !hasTail {
		return loaded, err
	}
	if o.Admit != nil {
		release, err := o.Admit(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if _, err := e.Fold(ctx); err != nil {
		return nil, err
	}
	loaded, err = cat.Load(ctx, n.Namespace, n.Name)
	return loaded, notFound(ctx, cat, n, err)
}

// MetadataSize returns the size of the table's JSON metadata, in bytes. Load in package iceberg needs several times
// that much memory. t must not be pinned.
func (t *Table) MetadataSize(ctx context.Context) (_ int64, err error) {
	defer wrapError(&err, "load", t.Bucket().Name(), t.Name())
	n, err := t.checkUnpinned()
	if err != nil {
		return 0, err
	}
	cat := t.store().cat
	size, err := cat.MetadataSize(ctx, n.Namespace, n.Name)
	return size, notFound(ctx, cat, n, err)
}

// IcebergNames returns the first table names of the bucket that sort after the given name: at most limit names, sorted.
func (b *Bucket) IcebergNames(ctx context.Context, after string, limit int) (_ []string, err error) {
	defer wrapError(&err, "list", b.Name(), "")
	return b.store().cat.Names(ctx, namespaceOf(b.Name()), after, limit)
}

// Create creates an empty bucket with the metadata m. If the bucket exists, the error wraps [ErrExists].
func (b *Bucket) Create(ctx context.Context, m Metadata) (err error) {
	defer wrapError(&err, "create", b.Name(), "")
	if err := checkName("bucket", b.Name()); err != nil {
		return err
	}
	m, err = m.normalize()
	if err == nil {
		err = b.store().cat.CreateNamespace(ctx, namespaceOf(b.Name()), m)
	}
	return err
}

// Rename gives the table a new name and moves it to the given bucket, which can be its current one. If that bucket
// already has a table of this name, the error wraps [ErrExists].
func (t *Table) Rename(ctx context.Context, to *Bucket, newName string) (err error) {
	defer wrapError(&err, "rename", t.Bucket().Name(), t.Name())
	n, err := t.checkUnpinned()
	if err != nil {
		return err
	}
	if to == nil {
		return &ArgumentError{Err: errors.New("the destination bucket is nil")}
	}
	target, err := checkTable(to.Name(), newName)
	if err != nil {
		return err
	}
	s := t.store()
	if err := s.cat.Rename(ctx, n, target); err != nil {
		return notFound(ctx, s.cat, n, err)
	}
	// Update the entries of both names in memory, so that the table's rows in the tail appear under its new name.
	return errors.Join(s.commits.Refresh(ctx, n), s.commits.Refresh(ctx, target))
}

func (t *Table) stageIceberg(ctx context.Context, meta table.Metadata) error {
	if _, err := t.checkUnpinned(); err != nil {
		return t.error("stage", err)
	}
	if _, err := t.loadIceberg(ctx, nil); !errors.Is(err, ErrNotFound) {
		return cmp.Or(err, ErrExists)
	}
	return t.store().cat.MakeDirectories(meta.Location())
}

func (s *Store) commitIceberg(ctx context.Context, changes []foreign.Change) (results []*table.Table, err error) {
	var pending []*txnChange
	err = s.Update(ctx, func(t *Txn) error {
		for i := range changes {
			c, err := t.addIceberg(&changes[i])
			if err != nil {
				return &OpError{Op: "commit to", Bucket: changes[i].Bucket, Table: changes[i].Table, Err: err}
			}
			pending = append(pending, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, c := range pending {
		if c.Result == nil { // the commit changed nothing, perhaps because it repeats an earlier one
			c.Result, err = s.cat.Load(ctx, c.Namespace, c.Name)
			if err != nil {
				return nil, notFound(ctx, s.cat, c.TableName, err)
			}
		}
		results = append(results, c.Result)
	}
	return results, nil
}

// addIceberg adds another program's change to the transaction. It first applies the change to a copy of the metadata,
// to find out whether the commit must fold the tail.
func (t *Txn) addIceberg(change *foreign.Change) (*txnChange, error) {
	n, err := checkTable(change.Bucket, change.Table)
	if err != nil {
		return nil, err
	}
	c, err := t.change(n)
	if err != nil {
		return nil, err
	}
	if c.Len() > 0 {
		return nil, &ArgumentError{Err: errors.New("the commit contains two changes to the table: combine them into one")}
	}
	e := t.writer(c)
	step := &foreign.Step{
		Entry: e.Entry, Catalog: t.s.cat, Memory: t.s.opts.Memory / 8, Change: change,
		ReadRows: func(ctx context.Context, t *table.Table, skip map[string]bool, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error {
			return e.readExcept(ctx, t, nil, skip, columns, where, each)
		},
		Normalize: func(m map[string]any) (map[string]any, error) { return Metadata(m).normalize() },
	}
	if step.IsApplied(c.cur) {
		return c, nil
	}
	if err := step.CheckRequirements(c.cur); err != nil {
		return nil, err
	}
	meta, err := step.ApplyUpdates(c.cur)
	if err != nil {
		return nil, err
	}
	old := c.cur
	mode := commit.Plain
	if old == nil {
		for _, other := range t.order {
			if other.newLocation == meta.Location() {
				return nil, fmt.Errorf("a table at location %s %w: another change in this transaction creates one there", meta.Location(), ErrExists)
			}
		}
		c.newLocation = meta.Location()
		t.hooks = append(t.hooks, icecat.CheckVacant(c.newLocation, n.Namespace))
	} else {
		mode = step.TailMode(old.Metadata(), meta)
	}
	step.Mode = mode
	c.Unfolded = mode == commit.Plain && !step.NeedsWholeTable(t.ctx, meta) || mode == commit.Replaces
	c.Add(mode, nil, step.Apply)
	return c, nil
}
