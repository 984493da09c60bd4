package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
)

// evolveStep is a commit step that changes a table's schema. It also moves the tail's rows into files, because rows in
// the tail must not have an old schema.
type evolveStep struct {
	commit.Basis // the table before the step
	e            tableWriter
	// the table's setting that allowed the change; apply returns commit.ErrStale if the setting has changed since
	allowedBy definition.Evolution
	shape     *schema.Shape      // the new columns
	props     iceberg.Properties // properties that a migration sets; nil if the step is not a migration

	// The remaining fields are used only if the step rewrites files.

	// converts rows, in the types that readers see, to the new columns; nil if no files are rewritten
	caster       *schema.Caster
	check        *rules.Check // checks the converted rows against the table's rules; can be nil
	writtenFiles []iceberg.DataFile
	// the files to replace; not used if Allowed is NoDeletions, because then all files are replaced
	oldFiles  []iceberg.DataFile
	readPaths map[string]bool // paths of the files that the step has read
}

func (step *evolveStep) apply(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	if err := step.CheckFresh(cur); err != nil {
		return nil, err
	}
	a.Info.Updated = a.Now
	// The first snapshot contains the tail's rows with the old columns, because puts have returned its version number.
	meta, err := a.FoldTail(ctx, cur)
	switch {
	case err != nil:
		return nil, err
	case step.caster != nil:
		return step.replaceFiles(ctx, a, cur, a.Table(meta))
	}
	return step.evolveMetadata(meta)
}

// replaceFiles changes a table's columns and replaces its files. cur is the table base after its tail has been folded.
func (step *evolveStep) replaceFiles(ctx context.Context, a *commit.Attempt, base, cur *table.Table) (table.Metadata, error) {
	oldFiles, writtenFiles, readPaths := step.oldFiles, step.writtenFiles, step.readPaths
	meta, err := step.evolveMetadata(cur.Metadata())
	if err != nil {
		return nil, err
	}
	files, err := datafile.Files(ctx, cur)
	if err == nil && step.Allowed != commit.NoDeletions {
		var own []iceberg.DataFile
		own, err = datafile.Files(ctx, base)
		readPaths = datafile.Paths(own)
	}
	if err != nil {
		return nil, err
	}
	addedFiles := slices.DeleteFunc(slices.Clone(files), func(f iceberg.DataFile) bool { return readPaths[f.FilePath()] })
	isMissing := len(files)-len(addedFiles) < len(readPaths)
	switch {
	case step.Allowed != commit.NoDeletions && isMissing: // folding the tail replaced rows in files
		return nil, commit.ErrStale
	case step.Allowed != commit.NoDeletions:
		oldFiles = slices.Concat(oldFiles, addedFiles)
	case isMissing: // files that the step has read were merged in the meantime: rewrite all files again
		oldFiles, writtenFiles, readPaths = files, nil, map[string]bool{}
	default:
		oldFiles = files
	}
	var newFiles []iceberg.DataFile
	if len(addedFiles) > 0 { // files were added after the step read the table: rewrite these files too
		newFiles, err = step.rewriteFiles(ctx, cur, meta, a.IO, readPaths)
	}
	if err == nil && len(oldFiles)+len(writtenFiles) > 0 {
		meta, err = commit.ReplaceFiles(ctx, a.Table(meta), oldFiles, writtenFiles, nil)
	}
	// To keep the rows in order, add the files with the newest rows last.
	if err == nil && len(newFiles) > 0 {
		meta, err = a.AddOrdered(ctx, a.Table(meta), newFiles, nil, true)
	}
	return meta, err
}

// evolveMetadata returns meta with the new schema and properties, and new column names in the table's settings.
func (step *evolveStep) evolveMetadata(meta table.Metadata) (table.Metadata, error) {
	s, err := definition.SettingsOf(meta)
	if err == nil && s.Evolution != step.allowedBy {
		err = commit.ErrStale
	}
	if err != nil {
		return nil, err
	}
	oldSchema := meta.CurrentSchema()
	newName := func(name string) string {
		if f, ok := oldSchema.FindFieldByName(name); ok {
			if f, ok := step.shape.Schema.FindFieldByID(f.ID); ok {
				return f.Name
			}
		}
		return name
	}
	s.Time = newName(s.Time)
	for i, name := range s.Keys {
		s.Keys[i] = newName(name)
	}
	newMeta, err := definition.Reshape(meta, step.shape)
	if err != nil {
		return nil, err
	}
	if step.props != nil { // a migration
		newMeta, err = table.UpdateTableMetadata(newMeta, []table.Update{table.NewSetPropertiesUpdate(step.props)}, "")
		if err == nil {
			newMeta, err = definition.WithReplacement(meta, newMeta, false)
		}
		if err != nil {
			return nil, err
		}
	}
	return definition.WithSettings(newMeta, &s)
}

// rewriteFiles writes the rows of t's files to new files in newMeta's schema. It omits files whose paths are in skip.
func (step *evolveStep) rewriteFiles(ctx context.Context, t *table.Table, newMeta table.Metadata, fileIO *icecat.FileIO, skip map[string]bool) ([]iceberg.DataFile, error) {
	r, err := step.e.reader(ctx, t)
	isMove := false // whether each row is just moved to a new file; a migration can change the number of rows
	if err == nil {
		if step.caster.KeepsRows() {
			plainDef := r.def
			r.def = r.def.WithLineage(t.Metadata().Version())
			isMove = r.def != plainDef
		}
		r.skipFiles = skip
		err = r.plan(nil)
	}
	if err != nil {
		return nil, err
	}
	rows := batches.Reader(r.schema, r.batches, func() {})
	defer rows.Release()
	return step.e.Write(ctx, step.e.Staged(newMeta, fileIO), fileIO, commit.WriteInput{Rows: rows, Caster: step.caster, Rules: step.check, Moved: isMove, Acknowledged: skip != nil})
}

// reshape adds step to the transaction. If caster is not nil, reshape also rewrites the table's files.
func (t *Txn) reshape(c *txnChange, step *evolveStep, caster *schema.Caster, check *rules.Check) (err error) {
	if caster != nil && c.Writes() {
		return errors.New("a column change that rewrites the table's files cannot follow a put in the same Update: make the change in its own Update")
	}
	step.Basis, err = commit.BasisOf(c.cur, commit.AnyChanges, nil)
	if err != nil {
		return err
	}
	step.allowedBy = step.Definition.Settings.Evolution
	meta, err := step.evolveMetadata(c.cur.Metadata())
	if err != nil {
		return err
	}
	if caster != nil {
		step.Allowed, step.caster, step.check, step.IO = commit.NoDeletions, caster, check, t.s.cat.NewIO()
		files, err := datafile.Files(t.ctx, c.cur)
		if err != nil {
			return err
		}
		step.readPaths = datafile.Paths(files)
		step.writtenFiles, err = step.rewriteFiles(t.ctx, c.cur, meta, step.IO, nil)
		if err != nil {
			return err
		}
	}
	c.Add(commit.Folds, step.IO, step.apply)
	// Later steps of this Update must see the new columns and files.
	c.cur = c.Staged(meta, t.s.cat.NewIO())
	return nil
}

// schemaVersionProperty is the key of the table property that contains the version that Migrate sets.
const schemaVersionProperty = "partd.schema-version"

// SchemaVersion returns the version last set by Migrate, or 0 if Migrate was never called.
func (t *Table) SchemaVersion(ctx context.Context) (int, error) {
	return withView(ctx, t.reader(), "read the schema of", func(v *view) (int, error) { return schemaVersion(v.t) })
}

func schemaVersion(t *table.Table) (int, error) {
	text := t.Properties()[schemaVersionProperty]
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("read the property %s: %w", schemaVersionProperty, err)
	}
	return n, nil
}

// Migrate converts a table to a numbered version of its schema, in one commit. It reports whether it converted the
// table. It does nothing if the table already has this version or a later one.
//
// f converts each batch of rows, in the types of Table.Schema, to a batch of new rows. The first batch is empty; f's
// result for it defines the new columns. After a concurrent commit, Migrate may call f again with the same rows. f must
// not use the table, because that would deadlock. Migrate releases f's results; f can return its argument.
//
// The new rows must satisfy the table's rules, except those about uniqueness and order. Rows in another Store's tail
// are not converted; their columns are matched to the new columns by name.
func (t *Table) Migrate(ctx context.Context, version int, f func(arrow.RecordBatch) (arrow.RecordBatch, error)) (migrated bool, err error) {
	err = t.update(ctx, "migrate", func(txn *Txn) error {
		c, err := txn.existing(t.Bucket().Name(), t.Name())
		if err == nil {
			migrated, err = txn.migrate(c, version, f)
		}
		if err != nil {
			return t.error("migrate", err)
		}
		return nil
	})
	return migrated && err == nil, err
}

func (t *Txn) migrate(c *txnChange, version int, f func(arrow.RecordBatch) (arrow.RecordBatch, error)) (bool, error) {
	current, err := schemaVersion(c.cur)
	if err != nil {
		return false, err
	}
	if version <= 0 {
		return false, fmt.Errorf("the schema version is %d: versions are numbered from 1", version)
	}
	if version <= current {
		return false, nil
	}
	def, err := definition.FromMetadata(c.cur.Metadata())
	if err != nil {
		return false, err
	}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, def.Logical)
	defer builder.Release()
	empty := builder.NewRecordBatch()
	defer empty.Release()
	firstResult, err := f(empty)
	if err != nil {
		return false, err
	}
	defer firstResult.Release()
	sh, err := schema.NewShape(firstResult.Schema(), c.cur.Metadata().CurrentSchema(), c.cur.Metadata().LastColumnID())
	if err != nil {
		return false, err
	}
	newDef := &definition.Definition{Stored: sh.Stored, Logical: schema.WithoutEncodings(firstResult.Schema()), Rules: def.Rules}
	caster, err := schema.NewPutCaster(firstResult.Schema(), newDef.Stored, newDef.Logical, nil)
	if err != nil {
		return false, err
	}
	caster = caster.WithMigration(def.Logical, f)
	check, err := t.writer(c).ruleCheck(t.ctx, newDef, firstResult.Schema(), nil, nil)
	if err != nil {
		return false, err
	}
	check.WithoutOrder()
	step := &evolveStep{e: t.writer(c), shape: sh, props: iceberg.Properties{schemaVersionProperty: strconv.Itoa(version)}}
	err = t.reshape(c, step, caster, check)
	return err == nil, err
}
