package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
)

// DuplicateError is the error of a put that would have made rows of equal time and
// keys, where the table's settings say that there are none.
type DuplicateError = series.DuplicateError

// Put writes the rows of r to a table, and returns its newest version then.
// Rows that went to the tail are in a later one, once they are folded. Put reads
// r to its end and does not release it.
//
// A reader that a put has read to its end has no rows left. If it is one of arrow-go or
// of this module, putting it again is an error. A reader of the caller's own type may have
// rows again, as one of a queue: if it has none, none are put.
//
// An append needs columns that the table has, by their names, in types that fit;
// columns that are missing are null. A table that the put makes gets the schema
// of r, and so does one that it replaces.
func (b *Bucket) Put(ctx context.Context, name string, r array.RecordReader, m PutMode, o *PutOptions) (_ Version, err error) {
	ctx, end := b.store().begin(ctx, "put", b.Name(), name)
	r, rows := b.store().count(r)
	defer func() {
		rows.sum.Err = err
		end(rows.sum)
	}()
	defer failed(&err, "put", b.Name(), name)
	opts, err := o.check(m)
	if err != nil {
		return 0, err
	}
	e, done, err := b.use(name)
	if err != nil {
		return 0, err
	}
	defer done()
	src, err := datafile.Gather(r, b.store().opts.FoldBytes)
	if err != nil {
		return 0, err
	}
	defer src.Release()
	for range commit.MostAttempts {
		if m == PutAppend && src.Whole() && b.store().tail != nil {
			v, err := e.putInTail(ctx, src, opts)
			if errors.Is(err, commit.ErrStale) {
				continue // others made the table
			}
			if !errors.Is(err, commit.ErrNeedsCommit) {
				return v, err
			}
		}
		var c *txnChange
		err := b.store().update(ctx, func(t *Txn) (err error) {
			c, err = t.put(e.TableName, src, src.Schema, m, opts)
			return err
		})
		if err == nil {
			return c.version(), nil
		}
		if !errors.Is(err, commit.ErrStale) {
			return 0, err
		}
		if !src.Whole() {
			break
		}
		src.Rewind()
	}
	return 0, fmt.Errorf("%w: %w", ErrConflict, commit.ErrStale)
}

// putInTail appends to the tail, and makes the table where there is none.
func (e entry) putInTail(ctx context.Context, src *datafile.Source, o PutOptions) (Version, error) {
	v, exists, err := e.Append(ctx, src, o.ID, o.lacks)
	if err != nil || exists {
		return Version(v), err
	}
	if o.MustExist {
		return 0, ErrNotFound
	}
	made, err := e.s.newTable(src.Schema, src, o.Settings)
	if err == nil {
		err = e.Create(ctx, src, made, o.ID, o.Metadata)
	}
	return 0, err
}

// newTable returns the metadata of a new table with columns, which some rows are to be of.
func (s *Store) newTable(columns *arrow.Schema, rows datafile.Rows, o *Settings) (table.Metadata, error) {
	sh, err := schema.NewShape(withDictionaries(columns, rows), 0)
	if err != nil {
		return nil, err
	}
	return definition.New(sh, s.cat.NewLocation(), o, s.hooks.fileBytes)
}

// check returns what is put as it is kept, or says why it cannot be.
func (o *PutOptions) check(m PutMode) (PutOptions, error) {
	var opts PutOptions
	if o != nil {
		opts = *o
	}
	switch {
	case m > PutReplace:
		return opts, &ArgumentError{Err: fmt.Errorf("there is no put mode %d: there are PutError, PutAppend and PutReplace", m)}
	case opts.Over != nil && m != PutReplace:
		return opts, &ArgumentError{Err: errors.New("option Over goes with PutReplace alone")}
	case len(opts.ID) > MaxName:
		return opts, fmt.Errorf("the id has %d bytes, the limit is %d", len(opts.ID), MaxName)
	}
	if opts.Metadata == nil { // as of most appends, which would wait for JSON
		return opts, nil
	}
	var err error
	opts.Metadata, err = opts.Metadata.read()
	return opts, err
}

// lacks notes the columns of a table that an append lacks, or refuses it.
func (o *PutOptions) lacks(c *schema.Caster) error {
	missing := c.Missing()
	if o.Whole && len(missing) > 0 {
		return schema.Errorf(missing[0], "the rows lack it, and the table has it: put all of its columns")
	}
	if o.Lacks != nil {
		*o.Lacks = missing
	}
	return nil
}

// putStep adds or replaces rows. Its files are written.
type putStep struct {
	commit.Basis
	mode  PutMode
	o     PutOptions
	files []iceberg.DataFile
	made  table.Metadata // the table, if the put makes it
	after table.Metadata // the table after it, but for its files
	shape *schema.Shape  // the new schema, if the put replaces it

	replaced []iceberg.DataFile // those of a version that the put replaces
}

// prepare writes the files of a put to a table, which is nil where the put makes it.
// Others says that its rows are not all in it yet, for others are put in the same Update.
func (e entry) prepare(ctx context.Context, t *table.Table, src datafile.Rows, columns *arrow.Schema, m PutMode, o PutOptions, others bool) (_ *putStep, err error) {
	step := &putStep{mode: m, o: o}
	if t != nil && o.ID != "" {
		if applied, err := e.Applied(ctx, t, o.ID); applied || err != nil {
			return nil, cmp.Or(err, commit.ErrNothing)
		}
	}
	var base *int64
	since := commit.Anything
	switch {
	case t == nil && (o.Over != nil || o.MustExist):
		return nil, ErrNotFound
	case t == nil:
		step.made, err = e.s.newTable(columns, src, o.Settings)
		step.after = step.made
	case o.Over != nil:
		step.after = t.Metadata()
		var s *table.Snapshot
		if s, err = snapshotOf(step.after, *o.Over); err == nil {
			since, base = commit.Appends, &s.SnapshotID
			step.replaced, err = datafile.Files(ctx, t, table.WithSnapshotID(s.SnapshotID))
		}
	case m == PutError:
		return nil, ErrExists
	case m == PutReplace:
		step.after, err = step.reshape(t, withDictionaries(columns, src))
	default:
		step.after = t.Metadata()
	}
	if err != nil {
		return nil, err
	}
	d, err := definition.Of(step.after)
	if err != nil {
		return nil, err
	}
	var c *schema.Caster
	var old *table.Table // with whose rows the new ones will be
	if m == PutAppend && t != nil {
		old = t
		var changes []definition.Change
		if c, changes, err = d.Caster(columns); err == nil && len(changes) > 0 {
			err = commit.ErrStale // somebody else changed the table since it was looked at
		}
		if err == nil {
			err = o.lacks(c)
		}
	} else {
		c, err = schema.NewCaster(columns, d.Stored)
	}
	if err != nil {
		return nil, err
	}
	rules, err := e.check(ctx, d, columns, old, nil)
	if err != nil {
		return nil, err
	}
	if old != nil && rules.WholeTable() {
		if others {
			rules.Close()
			return nil, errors.New("a rule is about all rows of the table: an Update takes one put to it")
		}
		since, base = commit.Nothing, commit.SnapshotID(old)
	}
	io := e.s.cat.NewIO()
	writer := e.Staged(step.after, io)
	if step.Basis, err = commit.BasisOf(writer, since, io); err != nil {
		return nil, err
	}
	step.Base = base
	step.files, err = e.Write(ctx, writer, io, commit.Writing{Rows: src, Caster: c, Rules: rules})
	return step, err
}

// reshape returns the metadata of a table that is replaced, with other columns if they are.
func (p *putStep) reshape(t *table.Table, columns *arrow.Schema) (table.Metadata, error) {
	meta := t.Metadata()
	sh, err := schema.NewShape(columns, meta.LastColumnID())
	if err != nil {
		return nil, err
	}
	def, err := definition.Of(meta)
	if err != nil {
		return nil, err
	}
	if !def.Stored.Equal(sh.Stored) || meta.Properties()[schema.Property(meta.CurrentSchema().ID)] != sh.Put {
		p.shape = sh
	}
	return p.emptied(meta)
}

// emptied returns the metadata of a table with the columns and settings of the put.
func (p *putStep) emptied(meta table.Metadata) (_ table.Metadata, err error) {
	if p.shape != nil {
		if meta, err = definition.Reshaped(meta, p.shape); err != nil {
			return nil, err
		}
	}
	return definition.WithSettings(meta, p.o.Settings)
}

// replaces reports whether the put takes the place of all rows.
func (p *putStep) replaces() bool { return p.mode == PutReplace && p.o.Over == nil }

func (p *putStep) how() commit.How {
	switch {
	case p.replaces():
		return commit.Replaces
	case p.o.ID != "": // it must not come beside another one with it
		return commit.Exclusive
	}
	return commit.Plain
}

func (p *putStep) apply(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	if p.o.ID != "" {
		if err := a.Put(ctx, cur, p.o.ID); err != nil {
			return nil, err
		}
	}
	if (cur == nil) != (p.made != nil) {
		return nil, commit.ErrStale
	}
	a.Info.Updated = a.Now
	if cur == nil || p.replaces() {
		a.Info.Metadata = p.o.Metadata
	}
	switch {
	case cur == nil:
		return commit.AddFiles(ctx, a.Table(p.made), p.files, nil)
	case p.o.Over != nil:
		return p.over(ctx, a, cur)
	case p.mode != PutReplace:
		if err := a.Holds(&p.Basis, cur); err != nil {
			return nil, err
		}
		return a.AddOrdered(ctx, cur, p.files, nil, false)
	case p.shape != nil && p.shape.LastID != cur.Metadata().LastColumnID():
		return nil, commit.ErrStale
	}
	old, err := datafile.Files(ctx, cur)
	if err != nil {
		return nil, err
	}
	meta, err := p.emptied(cur.Metadata())
	if err != nil {
		return nil, err
	}
	cur = a.Table(meta)
	if err := p.Holds(cur); err != nil {
		return nil, err
	}
	return commit.ReplaceFiles(ctx, cur, old, p.files, nil)
}

// over puts the rows in the place of a version's.
func (p *putStep) over(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	err := p.Holds(cur)
	if errors.Is(err, commit.ErrStale) {
		err = fmt.Errorf("%w: the version is not the newest any more, but for rows put later", ErrConflict)
	}
	if err != nil {
		return nil, err
	}
	if p.Order != nil && p.Order.Rule != "" && p.Order.Rule != KeepAll {
		s, err := a.Series(cur)
		if err != nil {
			return nil, err
		}
		all, err := s.Files(ctx)
		if err != nil {
			return nil, err
		}
		replaced := paths(p.replaced)
		later := slices.DeleteFunc(all, func(f *series.File) bool { return replaced[f.Data().FilePath()] })
		err = s.Refuse(ctx, later, p.files)
		if errors.As(err, new(*DuplicateError)) && p.Order.Rule != RefuseDuplicate {
			err = fmt.Errorf("%w: rows put later are equal in time and keys to some that are to replace the version", ErrConflict)
		}
		if err != nil {
			return nil, err
		}
	}
	return commit.ReplaceFiles(ctx, cur, p.replaced, p.files, nil)
}
