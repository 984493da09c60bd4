package tables

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// DuplicateError is the error for a put whose rows would repeat a time and keys, which the table's settings forbid.
type DuplicateError struct {
	Count int64    // number of duplicate rows
	Rows  []string // the first ten of them, as text; nil if only their number is known
}

func (e *DuplicateError) Error() string { return (*series.DuplicateError)(e).Error() }

// Put writes the rows of r to the table, and returns the version that contains them. It reads r to the end, and does not
// release it.
//
// A small append may be kept in the tail, which is later moved into data files (folded). Put then returns the version that
// the fold will make, and reading that version with AtVersion folds the tail first. If another process commits that version
// number before the fold, AtVersion returns an error that names the version with the rows. If a concurrent change
// replaces all rows before the fold, the version is not found. Put with an ID that was
// already applied returns a version that contains the rows unless a later change removed them.
//
// If r is a reader from arrow-go or this module that has already been read to the end, Put returns an error. If r is a
// custom reader without rows, such as an empty queue, Put adds no rows.
//
// An append matches columns by name. By default, the table must have all columns of r, in compatible types, and columns
// that r lacks become null. A put that creates or replaces the table gives it the schema of r.
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

// putInTail appends rows to the tail, and creates the table if it is missing. It returns commit.ErrNeedsCommit if the
// rows must be written to files instead.
func (e entry) putInTail(ctx context.Context, src *datafile.Source, o PutOptions) (Version, error) {
	v, exists, err := e.Append(ctx, src, o.ID, o.checkMissing)
	if err != nil || exists {
		return Version(v), err
	}
	if o.MustExist {
		return 0, missingTable(ctx, e.s.cat, e.TableName)
	}
	created, err := e.s.newTable(src.Schema, src, o.Settings.definition())
	if err == nil {
		err = e.Create(ctx, src, created, o.ID, o.Metadata)
	}
	if err == nil && len(src.Batches) > 0 {
		v = 1
	}
	return Version(v), err
}

// newTable returns metadata for a new table with the settings o. The metadata
// includes the dictionaries of the dictionary-encoded columns in rows.
func (s *core) newTable(columns *arrow.Schema, rows datafile.Rows, o *definition.Settings) (table.Metadata, error) {
	sh, err := schema.NewShape(withDictionaries(columns, rows), 0)
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
	if opts.Metadata == nil { // the usual case: do not encode JSON
		return opts, nil
	}
	var err error
	opts.Metadata, err = opts.Metadata.normalize()
	return opts, err
}

// checkMissing handles the table columns that an append lacks: it returns an error if o.AllColumns is set, and
// otherwise sets *o.MissingColumns.
func (o *PutOptions) checkMissing(c *schema.Caster) error {
	missing := c.Missing()
	if o.AllColumns && len(missing) > 0 {
		return schema.Errorf(missing[0], "the rows lack this column: put all columns of the table")
	}
	if o.MissingColumns != nil {
		*o.MissingColumns = missing
	}
	return nil
}
