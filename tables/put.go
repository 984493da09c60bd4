package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
)

// Put writes the rows of r to the table and returns the version that contains them. It reads r to the end but does not
// release it.
//
// A small append may be stored in the tail and moved into data files (folded) later. Put then returns the version that
// the fold will create; reading this version with AtVersion folds the tail first. If another process commits this
// version number before the fold, AtVersion returns an error that names the version with the rows. If a concurrent
// change replaces all rows before the fold, the version does not exist. If a put with the same ID was already applied,
// Put returns a version that contains the rows, unless a later change removed them.
//
// If r is a reader from arrow-go or this module and has already been read to the end, Put returns an error. If r is a
// custom reader that has no rows, such as an empty queue, Put adds no rows.
//
// An append matches columns by name. By default, the table must have all of r's columns with compatible types, and
// columns that r lacks become null. A put that creates or replaces the table gives it r's schema.
func (t *Table) Put(ctx context.Context, r array.RecordReader, m PutMode, o *PutOptions) (_ Version, err error) {
	ctx, end := t.store().opts.begin(ctx, "put", t.Bucket().Name(), t.Name())
	r, counts := t.store().opts.withCounts(r)
	defer func() {
		counts.Err = err
		end(*counts)
	}()
	defer wrapError(&err, "put", t.Bucket().Name(), t.Name())
	opts, err := o.check(m)
	if err != nil {
		return 0, err
	}
	e, release, err := t.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	src, err := datafile.Gather(r, t.store().opts.FoldBytes)
	if err != nil {
		return 0, err
	}
	defer src.Release()
	for range commit.MaxAttempts {
		if m == PutAppend && src.IsWhole() && t.store().tail != nil && opts.rows == nil {
			v, err := e.putInTail(ctx, src, opts)
			if errors.Is(err, commit.ErrStale) {
				continue // the table was created concurrently
			}
			if !errors.Is(err, commit.ErrNeedsCommit) {
				return v, err
			}
		}
		var c *txnChange
		err := t.store().update(ctx, func(txn *Txn) (err error) {
			c, err = txn.put(e.TableName, src, src.Schema, m, opts)
			return err
		})
		if err == nil {
			return c.version(), nil
		}
		if !errors.Is(err, commit.ErrStale) {
			return 0, err
		}
		if !src.IsWhole() || opts.basis != nil {
			break
		}
		src.Rewind()
	}
	return 0, fmt.Errorf("%w: %w", ErrConflict, commit.ErrStale)
}

// putInTail appends rows to the tail and creates the table if it is missing. It returns commit.ErrNeedsCommit if the
// rows must be written to files instead.
func (e tableWriter) putInTail(ctx context.Context, src *datafile.Source, o PutOptions) (Version, error) {
	v, exists, err := e.Append(ctx, src, o.ID, o.checkMissing)
	if err != nil || exists {
		return Version(v), err
	}
	if o.MustExist {
		return 0, missingTable(ctx, e.s.cat, e.TableName)
	}
	created, err := e.s.newTable(src.Schema, src, o.Settings.toDefinition())
	if err == nil {
		err = e.Create(ctx, src, created, o.ID, o.Metadata)
	}
	if err == nil && len(src.Batches) > 0 {
		v = 1
	}
	return Version(v), err
}

// newTable returns metadata for a new table with the settings o. The metadata includes the dictionaries of the
// dictionary-encoded columns in rows.
func (s *core) newTable(columns *arrow.Schema, rows datafile.Rows, o *definition.Settings) (table.Metadata, error) {
	sh, err := schema.NewShape(withDictionaries(columns, rows), nil, 0)
	if err != nil {
		return nil, err
	}
	return definition.NewMetadata(sh, s.cat.NewLocation(), o, s.hooks.FileBytes)
}

// check returns a copy of o with normalized metadata, or an error if an option is invalid.
func (o *PutOptions) check(m PutMode) (PutOptions, error) {
	var opts PutOptions
	if o != nil {
		opts = *o
	}
	switch {
	case m > PutReplace:
		return opts, &ArgumentError{Err: fmt.Errorf("unknown put mode %d: use PutError, PutAppend or PutReplace", m)}
	case opts.Over != nil && m != PutReplace:
		return opts, &ArgumentError{Err: errors.New("option Over requires PutReplace")}
	case len(opts.ID) > MaxName:
		return opts, &ArgumentError{Err: fmt.Errorf("option ID is %d bytes long: the limit is %d", len(opts.ID), MaxName)}
	}
	if opts.Metadata == nil { // the usual case: avoid the JSON encoding in normalize
		return opts, nil
	}
	var err error
	opts.Metadata, err = opts.Metadata.normalize()
	return opts, err
}

// checkMissing handles table columns that an append lacks: they are an error if o.AllColumns is set. Otherwise,
// checkMissing stores their names in *o.MissingColumns.
func (o *PutOptions) checkMissing(caster *schema.Caster) error {
	missing := caster.Missing()
	if o.AllColumns && len(missing) > 0 {
		return schema.Errorf(missing[0], "the rows lack this column: put all columns of the table")
	}
	if o.MissingColumns != nil {
		*o.MissingColumns = missing
	}
	return nil
}

// Put is like Table.Put but is part of the transaction. It reads r and writes its rows to files before it returns.
func (t *Txn) Put(bucket, name string, r array.RecordReader, m PutMode, o *PutOptions) (err error) {
	defer wrapError(&err, "put", bucket, name)
	n, err := checkTable(bucket, name)
	if err != nil {
		return err
	}
	opts, err := o.check(m)
	if err != nil {
		return err
	}
	if t.s == nil {
		return ErrTxnDone
	}
	r, counts := t.s.opts.withCounts(r)
	src, err := datafile.Gather(r, 0)
	if err != nil {
		return err
	}
	defer src.Release()
	_, err = t.put(n, src, src.Schema, m, opts)
	t.sum.Rows, t.sum.Bytes = t.sum.Rows+counts.Rows, t.sum.Bytes+counts.Bytes
	return err
}

func (t *Txn) put(n tableName, r datafile.Rows, schema *arrow.Schema, m PutMode, opts PutOptions) (*txnChange, error) {
	c, err := t.change(n)
	if err != nil {
		return nil, err
	}
	saved := *c
	if m == PutAppend && c.cur != nil {
		if err := t.prepareAppend(c, schema); err != nil {
			return nil, err
		}
	}
	step, err := t.writer(c).prepare(t.ctx, c.cur, r, schema, m, opts, c.hasPuts)
	if errors.Is(err, commit.ErrNothing) {
		*c = saved
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if opts.Over != nil {
		c.Add(step.tailMode(), nil, step.undoCompactions)
	}
	c.Add(step.tailMode(), step.IO, step.apply)
	c.cur, c.hasPuts = c.Staged(step.newMeta, step.IO), true
	return c, nil
}

// prepareAppend changes the table's columns if appending rows with the given schema requires it. If a rule compares all
// rows of the table, prepareAppend first moves the tail's rows into files, because rules read only files.
func (t *Txn) prepareAppend(c *txnChange, schema *arrow.Schema) error {
	d, err := definition.FromMetadata(c.cur.Metadata())
	if err != nil {
		return err
	}
	ruleList, err := c.Rules(t.ctx, d)
	if err != nil {
		return err
	}
	if c.Len() == 0 && slices.ContainsFunc(ruleList, func(r rules.Rule) bool { return r.InTable && !r.Disabled }) {
		_, err = c.entry.Fold(t.ctx)
		if err == nil {
			c.cur, err = c.Current(t.ctx)
		}
		if err == nil && c.cur == nil {
			err = commit.ErrStale
		}
		if err == nil {
			d, err = definition.FromMetadata(c.cur.Metadata())
		}
		if err != nil {
			return err
		}
	}
	_, changes, err := d.Caster(schema)
	if err != nil {
		return err
	}
	return t.evolve(c, changesOf(changes))
}
