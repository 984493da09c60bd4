package tables

import (
	"context"
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// Settings of a table. The zero value is that of a table without any.
type Settings = definition.Settings

// OnDuplicate says what becomes of rows that are equal in time and keys.
type OnDuplicate = definition.OnDuplicate

// The rules for duplicates. "" is KeepAll.
const (
	KeepAll         = definition.KeepAll         // all are kept, in the order in which they came
	KeepFirst       = definition.KeepFirst       // the one that came first is kept
	KeepLast        = definition.KeepLast        // the one that came last is kept, whatever else is in it
	RefuseDuplicate = definition.RefuseDuplicate // a put that has or makes duplicates is refused
)

// Partition says by which periods of time a table's files are cut.
type Partition = definition.Partition

// The periods by which files are cut. "" is PartitionNone. Periods are those of UTC.
const (
	PartitionNone    = definition.PartitionNone
	PartitionAuto    = definition.PartitionAuto // by months, quarters or years, as long as the rows' time is
	PartitionDay     = definition.PartitionDay
	PartitionMonth   = definition.PartitionMonth
	PartitionQuarter = definition.PartitionQuarter
	PartitionYear    = definition.PartitionYear
)

// Evolution says which changes of its columns a table takes.
type Evolution = definition.Evolution

// The kinds of evolution. With "", the default, no put changes the columns: those
// that it lacks are null, narrower numbers are widened to the table's, anything else
// is refused; Evolve may do all.
const (
	Strict     = definition.Strict     // puts have exactly the table's columns, in its types
	AddOnly    = definition.AddOnly    // as Strict, but a put may bring new columns
	Compatible = definition.Compatible // as AddOnly, and numbers are widened, in the put or in the table
	Flexible   = definition.Flexible   // as Compatible, columns that a put lacks are null, and Evolve may rename and drop
)

// Settings returns the table's settings as they are now.
func (t *Table) Settings(ctx context.Context) (Settings, error) {
	return look(ctx, t, "read the settings of", func(v *view) (Settings, error) { return definition.SettingsOf(v.t.Metadata()) })
}

// SetSettings sets a table's settings as a whole. Where these order its rows in
// another way, or have another rule for duplicates, its files are written anew by
// them, in the same commit.
func (b *Bucket) SetSettings(ctx context.Context, name string, s Settings) error {
	err := b.store().Update(ctx, func(t *Txn) error { return t.SetSettings(b.Name(), name, s) })
	if op, ok := errors.AsType[*OpError](err); ok {
		err = &OpError{Op: "set the settings of", Bucket: b.Name(), Table: name, Err: op.Err}
	}
	return err
}

// SetSettings sets a table's settings as a whole; see Bucket.SetSettings.
func (t *Txn) SetSettings(bucket, name string, s Settings) error {
	return t.editSettings("set the settings of", bucket, name, func(now *Settings) { *now = s })
}

func (t *Txn) editSettings(op, bucket, name string, edit func(*Settings)) (err error) {
	defer failed(&err, op, bucket, name)
	c, err := t.existing(bucket, name)
	if err != nil {
		return err
	}
	meta, err := withSettings(c.cur.Metadata(), edit)
	if err != nil {
		return err
	}
	c.cur = c.Staged(meta, t.s.cat.NewIO())
	c.Add(commit.Plain, nil, editsSettings(edit))
	return nil
}

// withSettings returns metadata with the settings changed.
func withSettings(meta table.Metadata, edit func(*Settings)) (table.Metadata, error) {
	s, err := definition.SettingsOf(meta)
	if err != nil {
		return nil, err
	}
	edit(&s)
	return definition.WithSettings(meta, &s)
}

// editsSettings is the step that changes the settings. It writes all files anew where their
// rows get an order.
func editsSettings(edit func(*Settings)) commit.Step {
	return func(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
		if cur == nil {
			return nil, ErrNotFound
		}
		before, err := definition.Of(cur.Metadata())
		if err != nil {
			return nil, err
		}
		meta, err := withSettings(cur.Metadata(), edit)
		if err != nil {
			return nil, err
		}
		cur = a.Table(meta)
		is, err := a.Series(cur)
		if err != nil || is == nil || before.Order != nil && before.Order.Sort == is.Sort && (before.Order.Rule == is.Rule || is.Rule == "" || is.Rule == KeepAll) {
			return meta, err
		}
		files, err := is.Files(ctx)
		if err != nil || len(files) == 0 {
			return meta, err
		}
		var old []iceberg.DataFile
		for _, f := range files {
			old = append(old, f.Data())
		}
		add, err := is.Rewrite(ctx, files, is, is.Merging(), sorted.Each(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
			if err := series.Check(is.Order, b); err != nil {
				b.Release()
				return nil, err
			}
			return b, nil
		}))
		if err == nil && is.Rule == RefuseDuplicate {
			err = is.Refuse(ctx, nil, add)
		}
		if err != nil {
			return nil, err
		}
		return commit.ReplaceFiles(ctx, cur, old, add, nil)
	}
}
