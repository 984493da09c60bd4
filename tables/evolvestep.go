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
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
)

// evolveStep gives a table another schema. The tail's rows become files of the old
// one in the same commit, so that none is left that was put under it.
type evolveStep struct {
	basis // the table before
	shape *schema.Shape
	props iceberg.Properties

	// Where the files are written anew.
	fit   *schema.Caster // makes the new rows of those that readers got before; nil: the files stay
	check *rules.Check   // of the new rows; nil: none
	files []iceberg.DataFile
	read  map[string]bool // the paths of the files that they are made of
}

func newEvolveStep(t *table.Table, sh *schema.Shape) (*evolveStep, error) {
	on, err := basisOf(t, anything, nil)
	return &evolveStep{basis: on, shape: sh}, err
}

func (p *evolveStep) apply(ctx context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if err := p.holds(cur); err != nil {
		return nil, err
	}
	now := snapshotID(cur)
	late := p.fit != nil && now != nil && *now != *p.base // there are files that were not read
	a.info.Updated = a.now
	var old []iceberg.DataFile
	var err error
	if p.fit != nil && now != nil {
		if old, err = datafile.Files(ctx, cur); err != nil {
			return nil, err
		}
	}
	if p.fit == nil {
		tail, err := a.tailFiles(ctx, cur, cur.Metadata(), nil, nil)
		if err != nil {
			return nil, err
		}
		if len(tail) > 0 {
			meta, err := a.addOrdered(ctx, cur, tail, nil, true)
			if err != nil {
				return nil, err
			}
			cur = a.table(meta)
		}
	}
	meta, err := evolvedTo(cur.Metadata(), p.shape)
	if err == nil && p.props != nil {
		meta, err = table.UpdateTableMetadata(meta, []table.Update{table.NewSetPropertiesUpdate(p.props)}, "")
	}
	if err != nil || p.fit == nil {
		return meta, err
	}
	var more []iceberg.DataFile
	if late {
		if more, err = a.e.rewritten(ctx, cur, meta, a.io, p.fit, p.check, p.read); err != nil {
			return nil, err
		}
	}
	tail, err := a.tailFiles(ctx, cur, meta, p.fit, p.check)
	if err != nil {
		return nil, err
	}
	cur = a.table(meta)
	if len(old)+len(p.files) > 0 {
		files, err := datafile.WithRowIDs(cur, p.files)
		if err != nil {
			return nil, err
		}
		tx := cur.NewTransaction()
		if err := tx.ReplaceDataFilesWithDataFiles(ctx, old, files, nil, table.WithoutAutoNameMapping()); err != nil {
			return nil, err
		}
		if meta, err = metadataOf(tx); err != nil {
			return nil, err
		}
	}
	// What came later stays behind: it is added by itself, and numbered so.
	for _, files := range [][]iceberg.DataFile{more, tail} {
		if len(files) > 0 {
			cur = a.table(meta)
			if meta, err = a.addOrdered(ctx, cur, files, nil, true); err != nil {
				return nil, err
			}
		}
	}
	return meta, nil
}

// evolvedTo returns metadata with another schema, and with settings that name its
// columns as they are called there.
func evolvedTo(meta table.Metadata, sh *schema.Shape) (table.Metadata, error) {
	s, err := definition.SettingsOf(meta)
	if err != nil {
		return nil, err
	}
	was := meta.CurrentSchema()
	now := func(name string) string {
		if f, ok := was.FindFieldByName(name); ok {
			if f, ok := sh.Schema.FindFieldByID(f.ID); ok {
				return f.Name
			}
		}
		return name
	}
	s.Time = now(s.Time)
	for i, name := range s.Keys {
		s.Keys[i] = now(name)
	}
	if meta, err = definition.Reshaped(meta, sh); err != nil {
		return nil, err
	}
	return definition.WithSettings(meta, &s)
}

// tailFiles writes what is in the tail as files of a table that has the metadata to.
// It wants mu.
func (a *attempt) tailFiles(ctx context.Context, cur *table.Table, to table.Metadata, fit *schema.Caster, rules *rules.Check) ([]iceberg.DataFile, error) {
	if a.tailDone || a.e.log == nil {
		return nil, nil
	}
	a.tailDone = true
	rows, err := a.e.rows(ctx, cur.Metadata(), lastEpoch)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	defer release(rows)
	def, err := definition.Of(cur.Metadata())
	if err != nil {
		return nil, err
	}
	one, err := conformAll(rows, def.Stored)
	if err != nil {
		return nil, err
	}
	writer := a.table(to)
	if fit == nil {
		return a.s.writeTail(ctx, writer, a.io, one)
	}
	defer one.Release()
	as, err := schema.Convert(one, fit.From)
	if err != nil {
		return nil, err
	}
	defer as.Release()
	return a.e.write(ctx, writer, a.io, &datafile.Source{Batches: []arrow.RecordBatch{as}}, fit, rules, true)
}

// write writes rows as files of a table, in its order if it has one. Rows that were
// acknowledged are not refused as duplicates.
func (e *entry) write(ctx context.Context, w *table.Table, io *icecat.FileIO, r datafile.Rows, fit *schema.Caster, rules *rules.Check, acknowledged bool) ([]iceberg.DataFile, error) {
	s, err := series.Of(w, e.s.opts.Memory)
	if err != nil {
		return nil, err
	}
	if acknowledged && s != nil && s.Rule == RefuseDuplicate {
		s = s.KeepingAll()
	}
	return write(ctx, w, s, io, r, fit, rules, nil)
}

// rewrite writes a table's files anew for a step.
func (t *Txn) rewrite(c *txnChange, step *evolveStep, fit *schema.Caster, rules *rules.Check) error {
	for _, st := range c.steps {
		if _, ok := st.(filer); ok {
			return errors.New("what writes the table's files anew comes before puts to it, in an Update of its own")
		}
	}
	meta, err := evolvedTo(c.cur.Metadata(), step.shape)
	if err != nil {
		return err
	}
	step.since, step.fit, step.check, step.io, step.read = appends, fit, rules, t.s.cat.NewIO(), map[string]bool{}
	if step.base != nil {
		files, err := datafile.Files(t.ctx, c.cur)
		if err != nil {
			return err
		}
		for _, f := range files {
			step.read[f.FilePath()] = true
		}
	}
	step.files, err = c.e.rewritten(t.ctx, c.cur, meta, step.io, fit, rules, nil)
	return err
}

// rewritten writes the rows of a table's files, but for those to leave out, as files
// of one that has the metadata to.
func (e *entry) rewritten(ctx context.Context, t *table.Table, to table.Metadata, io *icecat.FileIO, fit *schema.Caster, rules *rules.Check, but map[string]bool) ([]iceberg.DataFile, error) {
	r, err := e.stream(ctx, t, but)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	return e.write(ctx, e.s.cat.Staged(e.Namespace, e.Name, to, "", io), io, r, fit, rules, but != nil)
}

// reshape adds a step, after which the table has its schema.
func (t *Txn) reshape(c *txnChange, step *evolveStep) error {
	c.add(step)
	meta, err := evolvedTo(c.cur.Metadata(), step.shape)
	if err == nil {
		c.cur = t.s.cat.Staged(c.e.Namespace, c.e.Name, meta, "", step.io)
	}
	return err
}

// stream reads the rows that are in a table's files, but for some.
func (e *entry) stream(ctx context.Context, t *table.Table, but map[string]bool) (array.RecordReader, error) {
	v := &view{t: t, schema: t.Schema()}
	var err error
	if v.def, err = definition.Of(t.Metadata()); err != nil {
		return nil, err
	}
	v.returned = v.def.Logical
	r := &reader{s: e.s, table: &Table{b: e.s.Bucket(bucketOf(e.Namespace)), name: e.tableName}, ctx: ctx, left: -1, but: but}
	if err := r.choose(v, nil); err != nil {
		return nil, err
	}
	if err := r.plan(ctx, v); err != nil {
		return nil, err
	}
	return arrowsafe.Reader(r.schema, r.batches, func() {}), nil
}

// schemaVersionProperty is the property of a table with the version that its rows
// were migrated to.
const schemaVersionProperty = "partd.schema-version"

// SchemaVersion returns the version that the table was migrated to last, 0 if it
// never was.
func (t *Table) SchemaVersion(ctx context.Context) (int, error) {
	v, err := t.view(ctx, false)
	if err != nil {
		return 0, t.error("read the schema of", err)
	}
	return schemaVersion(v.t)
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

// Migrate brings a table to a numbered version of its schema, in one commit: f makes
// of each batch of its rows, in the types that readers get, one of the new rows. The
// first batch is empty, and says which columns there will be. Migrate reports whether
// it did so: not where the table has this version, or a later one. The rows are
// streamed; f sees all of them, but may see them again where others commit meanwhile.
// It gives away what it returns, which may be what it was given. Rows that another
// Store has in its tail are not seen, and have to fit the new columns by their names.
// Rules but those of uniqueness and of order are applied to the new rows.
func (b *Bucket) Migrate(ctx context.Context, name string, version int, f func(arrow.RecordBatch) (arrow.RecordBatch, error)) (done bool, err error) {
	err = b.updateAgain(ctx, func(t *Txn) error {
		c, err := t.existing(b.name, name)
		if err == nil {
			done, err = t.migrate(c, version, f)
		}
		if err != nil {
			return &OpError{Op: "migrate", Bucket: b.name, Table: name, Err: err}
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
	none := array.NewRecordBatch(def.Logical, emptyColumns(def.Logical), 0)
	defer none.Release()
	first, err := f(none)
	if err != nil {
		return false, err
	}
	defer first.Release()
	meta := c.cur.Metadata()
	sh, err := schema.NewShape(first.Schema(), meta.LastColumnID())
	if err != nil {
		return false, err
	}
	fit, err := schema.NewCaster(first.Schema(), sh.Stored)
	if err != nil {
		return false, err
	}
	fit = fit.After(def.Logical, f)
	rules, err := c.e.checker(t.ctx, nil, nil, first.Schema(), sh.Stored, schema.Plain(first.Schema()), c.cur.Properties()[rulesProperty])
	if err != nil {
		return false, err
	}
	rules.WithoutOrder()
	step, err := newEvolveStep(c.cur, sh)
	if err != nil {
		return false, err
	}
	step.props = iceberg.Properties{schemaVersionProperty: strconv.Itoa(version)}
	if err := t.rewrite(c, step, fit, rules); err != nil {
		return false, err
	}
	return true, t.reshape(c, step)
}

func emptyColumns(s *arrow.Schema) []arrow.Array {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	batch := b.NewRecordBatch()
	return batch.Columns()
}
