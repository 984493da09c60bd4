package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// putStep is a put that is ready to be committed: its files are already written.
type putStep struct {
	commit.Basis
	mode    PutMode
	opts    PutOptions
	files   []iceberg.DataFile
	created table.Metadata // the new table's metadata; nil if the table already exists
	newMeta table.Metadata // the metadata after the put, without the new files
	shape   *schema.Shape  // the new schema; nil if the put does not change the schema

	overSnapshot *int64             // ID of the snapshot of the version opts.Over; nil if opts.Over is nil
	overFiles    []iceberg.DataFile // files of the version opts.Over, which the put replaces
}

// prepare writes the files of a put to t, or to a new table if t is nil. It returns the step that commits them.
// hasOtherPuts must be true if the same Update has already put rows to the table.
func (e tableWriter) prepare(ctx context.Context, t *table.Table, src datafile.Rows, columns *arrow.Schema, m PutMode, o PutOptions, hasOtherPuts bool) (_ *putStep, err error) {
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
		step.created, err = e.s.newTable(columns, src, o.Settings.toDefinition())
		step.newMeta = step.created
	case o.Over != nil:
		var s *table.Snapshot
		s, t, err = e.s.version(ctx, e.TableName, *o.Over)
		if err == nil {
			step.newMeta = t.Metadata()
			allowed, base, step.overSnapshot = commit.OnlyAdditions, &s.SnapshotID, &s.SnapshotID
			step.overFiles, err = datafile.Files(ctx, t, table.WithSnapshotID(s.SnapshotID))
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
	step.Basis, err = commit.BasisOf(writer, allowed, fileIO)
	if err != nil {
		return nil, err
	}
	step.Base = base
	var existing *table.Table // table whose rows the rules compare with the new rows; nil to compare no stored rows
	caster, changes, err := step.Definition.Caster(columns)
	if err == nil && len(changes) > 0 {
		err = commit.ErrStale // the table has changed since it was read
		if o.Over != nil {
			err = columnChangeError(changes[0])
		}
	}
	if m == PutAppend && t != nil && err == nil {
		existing, err = t, o.checkMissing(caster)
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
			return nil, errors.New("the table has a rule that compares all its rows: combine this Update's puts to the table into one")
		}
		step.Allowed, step.Base = commit.OnlyCompactions, commit.SnapshotID(existing)
	}
	step.files, err = e.Write(ctx, writer, fileIO, commit.WriteInput{Rows: src, Caster: caster, Rules: rules})
	return step, err
}

// reshape returns the metadata that t gets when the put replaces its rows. If the put's columns differ from the table's
// columns, reshape sets p.shape.
func (p *putStep) reshape(t *table.Table, columns *arrow.Schema) (table.Metadata, error) {
	meta := t.Metadata()
	sh, err := schema.NewShape(columns, meta.CurrentSchema(), meta.LastColumnID())
	if err != nil {
		return nil, err
	}
	def, err := definition.FromMetadata(meta)
	if err != nil {
		return nil, err
	}
	property := meta.Properties()[schema.Property(meta.CurrentSchema().ID)]
	if property == "" { // another program created the columns
		property, err = schema.Encode(schema.RestorePutTypes(def.Stored, new(arrow.Schema)))
		if err != nil {
			return nil, err
		}
	}
	if !def.Stored.Equal(sh.Stored) || property != sh.PutProperty {
		p.shape = sh
	}
	return p.replacement(meta)
}

// replacement returns a copy of meta with the put's columns and settings.
func (p *putStep) replacement(meta table.Metadata) (_ table.Metadata, err error) {
	if p.shape != nil {
		var reshaped table.Metadata
		reshaped, err = definition.Reshape(meta, p.shape)
		if err != nil {
			return nil, err
		}
		meta, err = definition.WithReplacement(meta, reshaped, false)
		if err != nil {
			return nil, err
		}
	}
	return definition.WithSettings(meta, p.opts.Settings.toDefinition())
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

// isEmptyAppend reports whether the put appends no rows and is not part of an SQL statement. The ID of such a put is
// not recorded, so that a later put with the same ID can add rows.
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

// undoCompactions runs before apply if opts.Over is set. If compactions have since merged files of the version
// opts.Over with other files, undoCompactions restores the original files, so that apply can replace them.
func (p *putStep) undoCompactions(_ context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	p.Base = p.overSnapshot // an earlier attempt may have changed p.Base
	if cur == nil {
		return nil, commit.ErrNothing
	}
	meta, err := a.UndoCompactions(cur, *p.overSnapshot)
	if err == nil {
		p.Base = &meta.CurrentSnapshot().SnapshotID
	}
	return meta, err
}

// replaceVersion replaces the rows of the version opts.Over. It returns an error if cur no longer contains all files of
// this version, or if the table has a rule for duplicates and a new row duplicates a row that was put later.
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
		replaced := datafile.Paths(p.overFiles)
		later := slices.DeleteFunc(all, func(f *series.File) bool { return replaced[f.Data().FilePath()] })
		err = s.RejectDuplicates(ctx, later, p.files)
		if errors.As(err, new(*series.DuplicateError)) && p.Definition.Order.Rule != definition.RefuseDuplicate {
			err = fmt.Errorf("%w: rows that were put later have the same time and keys as some of the new rows", ErrConflict)
		}
		if err != nil {
			return nil, err
		}
	}
	return commit.ReplaceFiles(ctx, cur, p.overFiles, p.files, nil)
}
