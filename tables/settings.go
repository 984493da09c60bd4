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

// Settings configures a table. The zero value means a table without settings. The fields:
//
//   - Time string: the timestamp or date32 column that orders the rows. "" means the order of arrival.
//   - Keys []string: columns that distinguish rows with equal times. Without Keys, rows with equal times are duplicates.
//   - OnDuplicate OnDuplicate: the rule for rows with equal times and keys.
//   - Partition Partition: the length of the time periods; no file contains rows from more than one period.
//   - Evolution Evolution: the column changes that the table allows.
//   - Compression Compression: whether new files are compressed to be read fast or to be small.
type Settings = definition.Settings

// OnDuplicate is a rule for duplicates: rows with the same time and keys.
type OnDuplicate = definition.OnDuplicate

// Rules for duplicates. "" means KeepAll.
const (
	KeepAll         = definition.KeepAll         // keeps all rows, in order of arrival
	KeepFirst       = definition.KeepFirst       // keeps the row that arrived first
	KeepLast        = definition.KeepLast        // keeps the row that arrived last
	RefuseDuplicate = definition.RefuseDuplicate // rejects a put that contains or causes duplicates
)

// Partition is the length of the time periods that divide a table's files.
type Partition = definition.Partition

// Lengths of the periods, in UTC. "" means PartitionNone.
const (
	PartitionNone    = definition.PartitionNone
	PartitionAuto    = definition.PartitionAuto // months, quarters or years, depending on the time span of the rows
	PartitionDay     = definition.PartitionDay
	PartitionMonth   = definition.PartitionMonth
	PartitionQuarter = definition.PartitionQuarter
	PartitionYear    = definition.PartitionYear
)

// Evolution specifies which column changes a table allows.
type Evolution = definition.Evolution

// Kinds of Evolution. By default (""), a put never changes the table's columns: columns that the put lacks become null,
// narrower numbers in the put are widened to the table's types, and any other difference is an error. Evolve can make
// any change.
const (
	Strict     = definition.Strict     // puts must have exactly the table's columns and types
	AddOnly    = definition.AddOnly    // like Strict, but puts can add columns
	Compatible = definition.Compatible // like AddOnly, but if the number types of the put and the table differ, the narrower type is widened
	Flexible   = definition.Flexible   // like Compatible, but columns that a put lacks become null, and Evolve can rename and drop columns
)

// Compression says whether a table's files are compressed for fast reads or for a small size.
type Compression = definition.Compression

// Kinds of Compression. "" means CompressFast. For each column, CompressFast chooses Snappy by default, zstd if only
// zstd saves much space or it saves far more, or no compression if neither saves much.
const (
	CompressFast  = definition.CompressFast  // Snappy, zstd or no compression, chosen for each column
	CompressSmall = definition.CompressSmall // zstd for every column
)

// Settings returns the table's current settings.
func (t *Table) Settings(ctx context.Context) (Settings, error) {
	return withView(ctx, t, "read the settings of", func(v *view) (Settings, error) { return definition.SettingsOf(v.t.Metadata()) })
}

// SetSettings replaces a table's settings. If they change the order of the rows or the rule for duplicates, the same
// commit rewrites the table's files.
func (t *Table) SetSettings(ctx context.Context, s Settings) error {
	const op = "set the settings of"
	err := t.update(ctx, op, func(txn *Txn) error { return txn.SetSettings(t.Bucket().Name(), t.Name(), s) })
	if opErr, ok := errors.AsType[*OpError](err); ok {
		err = t.error(op, opErr.Err)
	}
	return err
}

// SetSettings is like Table.SetSettings, but is part of the transaction.
func (t *Txn) SetSettings(bucket, name string, s Settings) error {
	return t.editSettings("set the settings of", bucket, name, func(current *Settings) { *current = s })
}

func (t *Txn) editSettings(op, bucket, name string, edit func(*Settings)) (err error) {
	defer wrapError(&err, op, bucket, name)
	c, err := t.existing(bucket, name)
	if err != nil {
		return err
	}
	meta, err := withSettings(c.cur.Metadata(), edit)
	if err != nil {
		return err
	}
	c.cur = c.Staged(meta, t.s.cat.NewIO())
	c.Add(commit.Plain, nil, editSettingsStep(edit))
	return nil
}

func withSettings(meta table.Metadata, edit func(*Settings)) (table.Metadata, error) {
	s, err := definition.SettingsOf(meta)
	if err != nil {
		return nil, err
	}
	edit(&s)
	return definition.WithSettings(meta, &s)
}

// editSettingsStep returns a step that edits a table's settings, and rewrites all its files if the edit changes the
// order of the rows or the rule for duplicates.
func editSettingsStep(edit func(*Settings)) commit.Step {
	return func(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
		if cur == nil {
			return nil, ErrNotFound
		}
		oldDef, err := definition.FromMetadata(cur.Metadata())
		if err != nil {
			return nil, err
		}
		meta, err := withSettings(cur.Metadata(), edit)
		if err != nil {
			return nil, err
		}
		cur = a.Table(meta)
		newSeries, err := a.Series(cur)
		if err != nil || newSeries == nil || oldDef.Order != nil && oldDef.Order.Sort == newSeries.Sort && (oldDef.Order.Rule == newSeries.Rule || newSeries.Rule == "" || newSeries.Rule == KeepAll) {
			return meta, err
		}
		files, err := newSeries.Files(ctx)
		if err != nil || len(files) == 0 {
			return meta, err
		}
		var replaced []iceberg.DataFile
		for _, f := range files {
			replaced = append(replaced, f.Data())
		}
		added, err := newSeries.Rewrite(ctx, files, newSeries, newSeries.Merging(), func(_ *series.File, rows sorted.Batches) sorted.Batches {
			return sorted.MapBatches(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
				if err := series.Check(newSeries.Order, b); err != nil {
					b.Release()
					return nil, err
				}
				return b, nil
			})(rows)
		})
		if err == nil && newSeries.Rule == RefuseDuplicate {
			err = newSeries.RejectDuplicates(ctx, nil, added)
		}
		if err != nil {
			return nil, err
		}
		return commit.ReplaceFiles(ctx, cur, replaced, added, nil)
	}
}
