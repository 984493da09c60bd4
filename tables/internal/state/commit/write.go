package commit

import (
	"cmp"
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// WriteInput describes rows to check and write.
type WriteInput struct {
	Rows datafile.Rows
	// nil means that the rows already have the column types of files; Write then ignores Rules and Check
	Caster *schema.Caster
	Rules  *rules.Check                  // rule checks, which Write closes; nil means no rules
	Check  func(arrow.RecordBatch) error // an additional check of each batch; can be nil
	Moved  bool                          // the rows end with Iceberg's lineage columns, which Write keeps
	// the rows' puts have already succeeded, so duplicates must not be rejected now
	Acknowledged bool
}

// storedRows returns acknowledged rows that are already in the column types of files, such as rows from the tail.
func storedRows(rows arrow.RecordBatch) WriteInput {
	return WriteInput{Rows: &datafile.Source{Batches: []arrow.RecordBatch{rows}}, Acknowledged: true}
}

// cast checks the rows and yields them in the column types of files. The columns in order must not contain nulls.
// Without a Caster, cast yields the rows unchecked.
func (w WriteInput) cast(ctx context.Context, order *definition.Order) batches.Seq {
	if w.Caster == nil {
		return batches.Of(w.Rows)
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		for w.Rows.Next() {
			if err := canceled.Err(ctx); err != nil {
				yield(nil, err)
				return
			}
			if w.Rows.RecordBatch().NumRows() == 0 {
				continue
			}
			batch, err := w.castBatch(w.Rows.RecordBatch())
			if err != nil {
				yield(nil, err)
				return
			}
			err = w.Rules.Add(batch)
			if err == nil {
				err = series.Check(order, batch)
			}
			if err == nil && w.Check != nil {
				err = w.Check(batch)
			}
			if err != nil || w.Rules.Violated() { // write no more rows but count further violations
				batch.Release()
				batch = nil
			}
			if (batch != nil || err != nil) && !yield(batch, err) || err != nil {
				return
			}
		}
		if err := cmp.Or(w.Rows.Err(), w.Rules.Finish(ctx)); err != nil {
			yield(nil, err)
		}
	}
}

func (w WriteInput) castBatch(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	if !w.Moved {
		return w.Caster.Cast(b)
	}
	all, own := b.Columns(), w.Caster.From.NumFields()
	rows := array.NewRecordBatch(w.Caster.From, all[:own], b.NumRows())
	defer rows.Release()
	batch, err := w.Caster.Cast(rows)
	if err != nil {
		return nil, err
	}
	defer batch.Release()
	return array.NewRecordBatch(schema.AddLineage(batch.Schema()), append(batch.Columns(), all[own:]...), b.NumRows()), nil
}

// AddFiles adds files to t. It sets props on the table and on the new snapshot.
func AddFiles(ctx context.Context, t *table.Table, files []iceberg.DataFile, props iceberg.Properties) (table.Metadata, error) {
	return withFiles(t, files, props, func(tx *table.Transaction, files []iceberg.DataFile) error {
		add := func() error {
			return tx.AddDataFiles(ctx, files, props, table.WithoutAutoNameMapping(), table.WithoutDuplicateCheck())
		}
		s, merges := t.CurrentSnapshot(), t.Properties()[table.ManifestMergeEnabledKey]
		if merges == "" || t.Metadata().Version() < 3 || s == nil || s.FirstRowID != nil {
			return add()
		}
		// The table was upgraded to version 3 after its last commit, so rows in older files have no IDs yet. If a
		// manifest contained both such files and new ones, rows in both would get the same IDs.
		return cmp.Or(tx.SetProperties(iceberg.Properties{table.ManifestMergeEnabledKey: "false"}), add(), tx.SetProperties(iceberg.Properties{table.ManifestMergeEnabledKey: merges}))
	})
}

// ReplaceFiles replaces the files in old. It sets props on the table t and on the new snapshot.
func ReplaceFiles(ctx context.Context, t *table.Table, old, files []iceberg.DataFile, props iceberg.Properties) (table.Metadata, error) {
	return replace(ctx, t, old, files, props, props)
}

// correctionProperty marks the snapshots of corrections that only add files.
const correctionProperty = "partd.correction"

// CorrectFiles is like ReplaceFiles, but marks a new snapshot that only adds files, so that OnlyAppends does not allow
// it. A correction that replaces no row, such as an upsert of new keys, adds rows that another upsert with the same
// keys must still see.
func CorrectFiles(ctx context.Context, t *table.Table, old, files []iceberg.DataFile) (table.Metadata, error) {
	var marks iceberg.Properties
	if len(old) == 0 {
		marks = iceberg.Properties{correctionProperty: "true"}
	}
	return replace(ctx, t, old, files, nil, marks)
}

// replace replaces files and removes the delete files that then apply to no file. It sets the properties in
// props on the table, and those in marks on the new snapshot.
func replace(ctx context.Context, t *table.Table, old, files []iceberg.DataFile, props, marks iceberg.Properties) (table.Metadata, error) {
	return withFiles(t, files, props, func(tx *table.Transaction, files []iceberg.DataFile) error {
		var deletes []iceberg.DataFile
		if s := t.CurrentSnapshot(); len(old) > 0 && (s.Summary == nil || s.Summary.Properties.GetInt("total-delete-files", 1) != 0) {
			tasks, err := datafile.Tasks(ctx, t)
			if err != nil {
				return err
			}
			deletes, err = datafile.UnneededDeletes(ctx, t, tasks, old)
			if err != nil {
				return err
			}
		}
		return tx.ReplaceFiles(ctx, old, files, deletes, marks, table.WithoutAutoNameMapping())
	})
}

// MarkRows adds files and deletion vectors to t. It removes the vectors in old, which the new ones replace.
func MarkRows(ctx context.Context, t *table.Table, files, vectors, old []iceberg.DataFile) (table.Metadata, error) {
	return withFiles(t, files, nil, func(tx *table.Transaction, files []iceberg.DataFile) error {
		return tx.NewRowDelta(nil).AddRows(files...).AddDeletes(vectors...).RemoveDeletes(old...).Commit(ctx)
	})
}

func withFiles(t *table.Table, files []iceberg.DataFile, props iceberg.Properties, add func(*table.Transaction, []iceberg.DataFile) error) (table.Metadata, error) {
	files, err := datafile.WithRowIDs(t, files)
	if err != nil {
		return nil, err
	}
	tx := t.NewTransaction()
	if props != nil {
		if err := tx.SetProperties(props); err != nil {
			return nil, err
		}
	}
	if err := add(tx, files); err != nil {
		return nil, err
	}
	return MetadataOf(tx)
}

// MetadataOf returns the metadata that results from a transaction.
func MetadataOf(tx *table.Transaction) (table.Metadata, error) {
	t, err := tx.StagedTable()
	if err != nil {
		return nil, err
	}
	return t.Metadata(), nil
}

// Rules returns the rules of the entry's table and of its bucket.
func (s *site) Rules(ctx context.Context, d *definition.Definition) ([]rules.Rule, error) {
	text, err := s.tables.Catalog.Property(ctx, s.Namespace, icecat.RulesProperty)
	if err != nil {
		return nil, err
	}
	return joinRules(d, text)
}

func joinRules(d *definition.Definition, bucket string) ([]rules.Rule, error) {
	tableRules, err := d.Rules()
	if err != nil || bucket == "" {
		return tableRules, err
	}
	bucketRules, err := rules.Parse(bucket)
	return slices.Concat(tableRules, bucketRules), err
}

// Write writes rows as data files of a table, through fileIO. After an error, it removes the files.
func (s *site) Write(ctx context.Context, t *table.Table, fileIO *icecat.FileIO, w WriteInput) (files []iceberg.DataFile, err error) {
	defer w.Rules.Close()
	d, err := definition.FromMetadata(t.Metadata())
	if err == nil && w.Moved {
		d = d.WithLineage(t.Metadata().Version())
	}
	if err != nil {
		return nil, err
	}
	files, err = s.writer(d, t)(ctx, w.cast(ctx, d.Order), w.Acknowledged)
	if err != nil {
		fileIO.RemoveWritten()
	}
	return files, err
}

// writer returns a function that writes rows as data files of t. If t has a row order, the rows are written sorted.
func (s *site) writer(d *definition.Definition, t *table.Table) func(ctx context.Context, rows batches.Seq, acknowledged bool) ([]iceberg.DataFile, error) {
	if d.Order != nil {
		return series.New(d, t, s.tables.Memory).WriteSorted
	}
	return func(ctx context.Context, rows batches.Seq, _ bool) ([]iceberg.DataFile, error) {
		return datafile.Write(ctx, t, d.Stored, rows, 0)
	}
}

// Series returns t as a Series, or nil if the table's rows have no order.
func (s *site) Series(t *table.Table) (*series.Series, error) {
	return series.ForTable(t, s.tables.Memory)
}

// AddOrdered adds the files of an append, applies the table's rule for duplicate rows, and sets properties.
// acknowledged means that the rows' put has already succeeded, so duplicates must not be rejected.
func (a *Attempt) AddOrdered(ctx context.Context, cur *table.Table, added []iceberg.DataFile, props iceberg.Properties, acknowledged bool) (table.Metadata, error) {
	s, err := a.Series(cur)
	if err != nil {
		return nil, err
	}
	if s == nil || cur.CurrentSnapshot() == nil || len(added) == 0 {
		return AddFiles(ctx, cur, added, props)
	}
	existing, err := s.Files(ctx)
	if err != nil {
		return nil, err
	}
	if s.Rule == definition.RefuseDuplicate && !acknowledged {
		if err := s.RejectDuplicates(ctx, existing, added); err != nil {
			return nil, err
		}
	}
	files, replaced, err := s.Dedup(ctx, existing, added)
	if err != nil {
		return nil, err
	}
	if len(replaced) == 0 {
		return AddFiles(ctx, cur, files, props)
	}
	return ReplaceFiles(ctx, cur, replaced, files, props)
}
