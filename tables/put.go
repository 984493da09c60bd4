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

// Put writes the rows of r to the table, and returns the version that contains them. If a small append goes to the
// tail, that is the version of the next fold, which AtVersion folds first. Put reads r to the end and does not release
// it.
//
// If a commit of another process takes that version before the fold, reading it is an error that names the version with
// the rows. If a concurrent change replaces all rows before the fold, the version is not found. Put with an ID that was
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
	e, release, err := t.acquire()
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
		return 0, ErrNotFound
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

// newTable returns metadata for a new table with the settings o. The metadata includes the dictionaries of rows.
func (s *Store) newTable(columns *arrow.Schema, rows datafile.Rows, o *definition.Settings) (table.Metadata, error) {
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

// putStep adds or replaces rows. Its files are already written.
type putStep struct {
	commit.Basis
	mode    PutMode
	opts    PutOptions
	files   []iceberg.DataFile
	created table.Metadata // the new table's metadata, if the put creates a table
	newMeta table.Metadata // the metadata after the put, without the new files
	shape   *schema.Shape  // the new schema, if the put changes it

	over     *int64             // if opts.Over is set, the ID of that version's snapshot
	replaced []iceberg.DataFile // the files of that version, which the put replaces
}

// prepare writes the files of a put to t, or to a new table if t is nil, and returns the step that commits them.
// hasOtherPuts means that the same Update has already put rows to the table.
func (e entry) prepare(ctx context.Context, t *table.Table, src datafile.Rows, columns *arrow.Schema, m PutMode, o PutOptions, hasOtherPuts bool) (_ *putStep, err error) {
	step := &putStep{mode: m, opts: o}
	if t != nil && o.ID != "" {
		if applied, err := e.Applied(ctx, t, o.ID); applied || err != nil {
			return nil, cmp.Or(err, commit.ErrNothing)
		}
	}
	var base *int64
	allowed := commit.AnyChanges
	switch {
	case t == nil && (o.Over != nil || o.MustExist):
		return nil, ErrNotFound
	case t == nil:
		step.created, err = e.s.newTable(columns, src, o.Settings.definition())
		step.newMeta = step.created
	case o.Over != nil:
		var s *table.Snapshot
		if s, t, err = e.s.version(ctx, e.TableName, *o.Over); err == nil {
			step.newMeta = t.Metadata()
			allowed, base, step.over = commit.OnlyAdditions, &s.SnapshotID, &s.SnapshotID
			step.replaced, err = datafile.Files(ctx, t, table.WithSnapshotID(s.SnapshotID))
		}
	case m == PutError:
		return nil, ErrExists
	case m == PutReplace:
		step.newMeta, err = step.reshape(t, withDictionaries(columns, src))
		if o.basis != nil {
			allowed, base = commit.OnlyCompactions, commit.SnapshotID(o.basis)
		}
	default:
		step.newMeta = t.Metadata()
	}
	if err != nil {
		return nil, err
	}
	fileIO := e.s.cat.NewIO()
	writer := e.Staged(step.newMeta, fileIO)
	if step.Basis, err = commit.BasisOf(writer, allowed, fileIO); err != nil {
		return nil, err
	}
	step.Base = base
	var existing *table.Table // the rules compare the new rows with the rows of this table; nil if there is none
	c, changes, err := step.Definition.Caster(columns)
	if err == nil && len(changes) > 0 {
		err = commit.ErrStale // the table has changed since it was read
		if o.Over != nil {
			err = columnChangeError(changes[0])
		}
	}
	if m == PutAppend && t != nil && err == nil {
		existing, err = t, o.checkMissing(c)
	}
	if err != nil {
		return nil, err
	}
	rules, err := e.ruleCheck(ctx, step.Definition, columns, existing, nil)
	if err != nil {
		return nil, err
	}
	if existing != nil && rules.WholeTable() {
		if hasOtherPuts {
			rules.Close()
			return nil, errors.New("the table has a rule that compares all its rows: combine the puts to it in this Update into one")
		}
		step.Allowed, step.Base = commit.OnlyCompactions, commit.SnapshotID(existing)
	}
	step.files, err = e.Write(ctx, writer, fileIO, commit.WriteInput{Rows: src, Caster: c, Rules: rules})
	return step, err
}

// reshape returns the metadata of t after the put has replaced its rows. If the put's columns differ from the table's
// columns, reshape sets p.shape.
func (p *putStep) reshape(t *table.Table, columns *arrow.Schema) (table.Metadata, error) {
	meta := t.Metadata()
	sh, err := schema.NewShape(columns, meta.LastColumnID())
	if err != nil {
		return nil, err
	}
	def, err := definition.FromMetadata(meta)
	if err != nil {
		return nil, err
	}
	if !def.Stored.Equal(sh.Stored) || meta.Properties()[schema.Property(meta.CurrentSchema().ID)] != sh.PutProperty {
		p.shape = sh
	}
	return p.replacement(meta)
}

// replacement returns a copy of meta with the put's columns and settings.
func (p *putStep) replacement(meta table.Metadata) (_ table.Metadata, err error) {
	if p.shape != nil {
		if meta, err = definition.Reshape(meta, p.shape); err != nil {
			return nil, err
		}
	}
	return definition.WithSettings(meta, p.opts.Settings.definition())
}

func (p *putStep) replaces() bool { return p.mode == PutReplace && p.opts.Over == nil }

func (p *putStep) tailMode() commit.Mode {
	switch {
	case p.replaces():
		return commit.Replaces
	case p.opts.ID != "": // exclude concurrent appends, because one of them could have the same put ID
		return commit.Exclusive
	}
	return commit.Plain
}

// isEmptyAppend reports whether the put, which is not part of a statement, appends no rows. Its ID is not recorded, so
// that a later put with the same ID loses no rows.
func (p *putStep) isEmptyAppend() bool {
	return p.mode == PutAppend && len(p.files) == 0 && p.opts.rows == nil
}

func (p *putStep) apply(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	if p.opts.ID != "" && !p.isEmptyAppend() {
		var err error
		if p.opts.rows != nil {
			err = a.AddStatement(ctx, cur, p.opts.ID, p.opts.checksum, *p.opts.rows)
		} else {
			err = a.AddPutID(ctx, cur, p.opts.ID)
		}
		if err != nil {
			return nil, err
		}
	}
	if (cur == nil) != (p.created != nil) {
		return nil, commit.ErrStale
	}
	a.Info.Updated = a.Now
	if cur == nil || p.replaces() {
		a.Info.Metadata = p.opts.Metadata
	}
	switch {
	case cur == nil:
		return commit.AddFiles(ctx, a.Table(p.created), p.files, nil)
	case p.opts.Over != nil:
		return p.replaceVersion(ctx, a, cur)
	case p.mode != PutReplace:
		if err := a.CheckFresh(&p.Basis, cur); err != nil {
			return nil, err
		}
		return a.AddOrdered(ctx, cur, p.files, nil, false)
	case p.opts.basis != nil && a.TailRows() > 0, p.shape != nil && p.shape.LastID != cur.Metadata().LastColumnID():
		return nil, commit.ErrStale
	}
	meta, err := p.replacement(cur.Metadata())
	if err != nil {
		return nil, err
	}
	cur = a.Table(meta)
	if err := p.CheckFresh(cur); err != nil {
		return nil, err
	}
	return a.ReplaceAll(ctx, cur, p.files)
}

// undoCompactions is the step before apply if opts.Over is set. If files of that version have since been merged with
// others, it brings them back, so that apply can replace them.
func (p *putStep) undoCompactions(_ context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	p.Base = p.over // an earlier attempt may have changed it
	if cur == nil {
		return nil, commit.ErrNothing
	}
	meta, err := a.UndoCompactions(cur, *p.over)
	if err == nil {
		p.Base = &meta.CurrentSnapshot().SnapshotID
	}
	return meta, err
}

// replaceVersion replaces the rows of the version opts.Over. It returns an error if cur no longer contains all files of
// that version, or if the table forbids duplicates and a new row duplicates a row that was put later.
func (p *putStep) replaceVersion(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	err := p.CheckFresh(cur)
	if errors.Is(err, commit.ErrStale) {
		err = fmt.Errorf("%w: rows of the version have since been replaced", ErrConflict)
	}
	if err != nil {
		return nil, err
	}
	if p.Definition.Order.HasRule() {
		s, err := a.Series(cur)
		if err != nil {
			return nil, err
		}
		all, err := s.Files(ctx)
		if err != nil {
			return nil, err
		}
		replaced := datafile.Paths(p.replaced)
		later := slices.DeleteFunc(all, func(f *series.File) bool { return replaced[f.Data().FilePath()] })
		err = s.RejectDuplicates(ctx, later, p.files)
		if errors.As(err, new(*series.DuplicateError)) && p.Definition.Order.Rule != definition.RefuseDuplicate {
			err = fmt.Errorf("%w: rows that were put later have the same time and keys as some of the new rows", ErrConflict)
		}
		if err != nil {
			return nil, err
		}
	}
	return commit.ReplaceFiles(ctx, cur, p.replaced, p.files, nil)
}
