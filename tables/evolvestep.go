package tables

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/schema"
)

// evolveStep gives a table another schema. The tail's rows become files of the old
// one in the same commit, so that none is left that was put under it.
type evolveStep struct {
	commit.Basis // the table before
	e            entry
	by           Evolution // which allowed it
	shape        *schema.Shape
	props        iceberg.Properties

	// Where files are written anew.
	fit   *schema.Caster // makes the new rows of those that readers got before; nil: the files stay
	check *rules.Check   // of the new rows; nil: none
	files []iceberg.DataFile
	old   []iceberg.DataFile // whose place they take, of an upsert; of others, which see Appends, all
	read  map[string]bool    // the paths of the files that they are made of
}

func (p *evolveStep) apply(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	if err := p.Holds(cur); err != nil {
		return nil, err
	}
	a.Info.Updated = a.Now
	if p.fit != nil {
		return p.applyAnew(ctx, a, cur)
	}
	meta := cur.Metadata()
	tail, err := a.TailFiles(ctx, cur, meta, nil, nil)
	if err == nil && len(tail) > 0 {
		meta, err = a.AddOrdered(ctx, cur, tail, nil, true)
	}
	if err != nil {
		return nil, err
	}
	return p.evolved(meta)
}

// applyAnew is apply where files are written anew.
func (p *evolveStep) applyAnew(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	old, now := p.old, commit.SnapshotID(cur)
	var more []iceberg.DataFile
	meta, err := p.evolved(cur.Metadata())
	if err == nil && now != nil && p.Since == commit.Appends {
		old, err = datafile.Files(ctx, cur)
	}
	if err == nil && now != nil && *now != *p.Base { // there are files that were not read
		more, err = p.rewritten(ctx, cur, meta, a.IO, p.read)
	}
	if err != nil {
		return nil, err
	}
	tail, err := a.TailFiles(ctx, cur, meta, p.fit, p.check)
	if err == nil && len(old)+len(p.files) > 0 {
		meta, err = commit.ReplaceFiles(ctx, a.Table(meta), old, p.files, nil)
	}
	// What came later stays behind: it is added by itself, and numbered so.
	for _, files := range [][]iceberg.DataFile{more, tail} {
		if err == nil && len(files) > 0 {
			meta, err = a.AddOrdered(ctx, a.Table(meta), files, nil, true)
		}
	}
	return meta, err
}

// evolved returns metadata after the step: with another schema, and with settings that name
// its columns as they are called there.
func (p *evolveStep) evolved(meta table.Metadata) (table.Metadata, error) {
	s, err := definition.SettingsOf(meta)
	if err == nil && s.Evolution != p.by {
		err = commit.ErrStale
	}
	if err != nil {
		return nil, err
	}
	was := meta.CurrentSchema()
	now := func(name string) string {
		if f, ok := was.FindFieldByName(name); ok {
			if f, ok := p.shape.Schema.FindFieldByID(f.ID); ok {
				return f.Name
			}
		}
		return name
	}
	s.Time = now(s.Time)
	for i, name := range s.Keys {
		s.Keys[i] = now(name)
	}
	if meta, err = definition.Reshaped(meta, p.shape); err != nil {
		return nil, err
	}
	if meta, err = definition.WithSettings(meta, &s); err == nil && p.props != nil {
		meta, err = table.UpdateTableMetadata(meta, []table.Update{table.NewSetPropertiesUpdate(p.props)}, "")
	}
	return meta, err
}

// rewritten writes the rows of a table's files, but for those to leave out, as files
// of one that has the metadata to.
func (p *evolveStep) rewritten(ctx context.Context, t *table.Table, to table.Metadata, io *icecat.FileIO, but map[string]bool) ([]iceberg.DataFile, error) {
	r, err := p.e.reader(ctx, t)
	if err == nil {
		r.but = but
		err = r.plan(nil)
	}
	if err != nil {
		return nil, err
	}
	rows := arrowsafe.Reader(r.schema, r.batches, func() {})
	defer rows.Release()
	return p.e.Write(ctx, p.e.Staged(to, io), io, commit.Writing{Rows: rows, Caster: p.fit, Rules: p.check, Acknowledged: but != nil})
}

// reshape adds a step, after which the table has its schema. Where there is a fit, the
// table's files are written anew.
func (t *Txn) reshape(c *txnChange, step *evolveStep, fit *schema.Caster, check *rules.Check) (err error) {
	if fit != nil && c.Writes() {
		return errors.New("what writes the table's files anew comes before puts to it, in an Update of its own")
	}
	if step.Basis, err = commit.BasisOf(c.cur, commit.Anything, nil); err != nil {
		return err
	}
	def, err := definition.Of(c.cur.Metadata())
	if err != nil {
		return err
	}
	step.by = def.Settings.Evolution
	meta, err := step.evolved(c.cur.Metadata())
	if err != nil {
		return err
	}
	if fit != nil {
		step.Since, step.fit, step.check, step.IO, step.read = commit.Appends, fit, check, t.s.cat.NewIO(), map[string]bool{}
		if step.Base != nil {
			files, err := datafile.Files(t.ctx, c.cur)
			if err != nil {
				return err
			}
			step.read = paths(files)
		}
		if step.files, err = step.rewritten(t.ctx, c.cur, meta, step.IO, nil); err != nil {
			return err
		}
	}
	c.Add(commit.Folds, step.IO, step.apply)
	c.cur = c.Staged(meta, t.s.cat.NewIO()) // a rule about all rows reads them
	return nil
}

// schemaVersionProperty is the property of a table with the version that its rows
// were migrated to.
const schemaVersionProperty = "partd.schema-version"

// SchemaVersion returns the version that the table was migrated to last, 0 if it
// never was.
func (t *Table) SchemaVersion(ctx context.Context) (int, error) {
	return look(ctx, t, "read the schema of", func(v *view) (int, error) { return schemaVersion(v.t) })
}

func schemaVersion(t *table.Table) (int, error) {
	text := t.Properties()[schemaVersionProperty]
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("property %s: %w", schemaVersionProperty, err)
	}
	return n, nil
}

// Migrate brings a table to a numbered version of its schema, in one commit: f turns
// each batch of its rows, in the types that readers get, into a batch of new rows. The
// first batch is empty; f's result for it defines the new columns. Migrate reports whether
// it migrated the table: it does nothing if the table has this version or a later one. The
// rows are streamed. f sees all of them, and some twice if others commit in the meantime. f
// must not use the table: it would wait for itself.
// Migrate owns what f returns, which may be the batch that f was given. Rows in the tail of
// another Store are not migrated, and must fit the new columns by name. All rules except
// those of uniqueness and order are applied to the new rows.
func (b *Bucket) Migrate(ctx context.Context, name string, version int, f func(arrow.RecordBatch) (arrow.RecordBatch, error)) (done bool, err error) {
	err = b.updateAgain(ctx, func(t *Txn) error {
		c, err := t.existing(b.Name(), name)
		if err == nil {
			done, err = t.migrate(c, version, f)
		}
		if err != nil {
			return &OpError{Op: "migrate", Bucket: b.Name(), Table: name, Err: err}
		}
		return nil
	})
	return done && err == nil, err
}

func (t *Txn) migrate(c *txnChange, version int, f func(arrow.RecordBatch) (arrow.RecordBatch, error)) (bool, error) {
	has, err := schemaVersion(c.cur)
	if err != nil {
		return false, err
	}
	if version <= 0 {
		return false, fmt.Errorf("the version is %d: versions are numbered from 1", version)
	}
	if version <= has {
		return false, nil
	}
	def, err := definition.Of(c.cur.Metadata())
	if err != nil {
		return false, err
	}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, def.Logical)
	defer builder.Release()
	none := builder.NewRecordBatch()
	defer none.Release()
	first, err := f(none)
	if err != nil {
		return false, err
	}
	defer first.Release()
	sh, err := schema.NewShape(first.Schema(), c.cur.Metadata().LastColumnID())
	if err != nil {
		return false, err
	}
	fit, err := schema.NewCaster(first.Schema(), sh.Stored)
	if err != nil {
		return false, err
	}
	fit = fit.After(def.Logical, f)
	made := &definition.Definition{Stored: sh.Stored, Logical: schema.Plain(first.Schema()), Rules: def.Rules}
	check, err := t.entry(c).check(t.ctx, made, first.Schema(), nil, nil)
	if err != nil {
		return false, err
	}
	check.WithoutOrder()
	step := &evolveStep{e: t.entry(c), shape: sh, props: iceberg.Properties{schemaVersionProperty: strconv.Itoa(version)}}
	err = t.reshape(c, step, fit, check)
	return err == nil, err
}
