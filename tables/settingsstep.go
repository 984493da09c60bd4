package tables

import (
	"context"
	"errors"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// Settings returns the table's settings in its selected state. For an old version, Time and Keys are that version's;
// the other settings can be newer.
func (t *Table) Settings(ctx context.Context) (Settings, error) {
	return withView(ctx, t.reader(), "read the settings of", func(v *view) (Settings, error) {
		s := settingsOf(v.def.Settings)
		s.Keys = slices.Clone(s.Keys)
		return s, nil
	})
}

// SetSettings replaces a table's settings. If only is not nil, SetSettings changes only the settings with these JSON
// names, such as "keep_versions", so that concurrent changes to other settings survive. A zero value unsets a setting.
// If the change affects the order of the rows or the rule for duplicates, the same commit rewrites the table's files.
func (t *Table) SetSettings(ctx context.Context, s Settings, only ...string) error {
	const op = "set the settings of"
	err := t.update(ctx, op, func(txn *Txn) error { return txn.SetSettings(t.Bucket().Name(), t.Name(), s, only...) })
	if opErr, ok := errors.AsType[*OpError](err); ok {
		err = t.error(op, opErr.Err)
	}
	return err
}

// SetSettings is like Table.SetSettings, but is part of the transaction.
func (t *Txn) SetSettings(bucket, name string, s Settings, only ...string) error {
	const op = "set the settings of"
	if err := definition.CheckNames(only); err != nil {
		return &OpError{Op: op, Bucket: bucket, Table: name, Err: err}
	}
	return t.editSettings(op, bucket, name, func(current *definition.Settings) { definition.CopyNamed(current, s.toDefinition(), only) })
}

func (t *Txn) editSettings(op, bucket, name string, edit func(*definition.Settings)) (err error) {
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

func withSettings(meta table.Metadata, edit func(*definition.Settings)) (table.Metadata, error) {
	s, err := definition.SettingsOf(meta)
	if err != nil {
		return nil, err
	}
	edit(&s)
	return definition.WithSettings(meta, &s)
}

// editSettingsStep returns a step that edits a table's settings. If the edit changes the order of the rows or sets a
// rule for duplicates, the step also rewrites all files.
func editSettingsStep(edit func(*definition.Settings)) commit.Step {
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
		if err != nil || newSeries == nil || oldDef.Order != nil && oldDef.Order.Sort == newSeries.Sort && (oldDef.Order.Rule == newSeries.Rule || newSeries.Rule == "" || newSeries.Rule == definition.KeepAll) {
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
		added, err := newSeries.Rewrite(ctx, files, newSeries, newSeries.Merging(), batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
			if err := series.Check(newSeries.Order, b); err != nil {
				b.Release()
				return nil, err
			}
			return b, nil
		}))
		if err == nil && newSeries.Rule == definition.RefuseDuplicate {
			err = newSeries.RejectDuplicates(ctx, nil, added)
		}
		if err != nil {
			return nil, err
		}
		return commit.ReplaceFiles(ctx, cur, replaced, added, nil)
	}
}

func (r *PartitionResult) setPeriods(c *series.Cutter) {
	periods, why := c.Periods()
	r.Partition, r.Why = Partition(periods), why
}

// Partition sets the time periods that divide a table's rows into files. In the same commit, it divides existing files.
// It rewrites a file that lies within one period only if the file is small or overlaps another file. If by is "", it
// keeps the current setting. With [PartitionAuto], each put, fold and compaction chooses the periods from the data.
func (t *Table) Partition(ctx context.Context, by Partition) (result PartitionResult, err error) {
	defer wrapError(&err, "partition", t.Bucket().Name(), t.Name())
	e, release, err := t.acquire(ctx)
	if err != nil {
		return result, err
	}
	defer release()
	err = commit.RetryStale(maxRewrites, func() error {
		result, err = e.partition(ctx, by)
		return err
	})
	return result, err
}

func (e tableWriter) partition(ctx context.Context, by Partition) (result PartitionResult, failure error) {
	e.Commits.Lock()
	defer e.Commits.Unlock()
	t, err := e.FoldAll(ctx)
	if err != nil {
		return result, err
	}
	settings, err := definition.SettingsOf(t.Metadata())
	if err != nil {
		return result, err
	}
	var steps []commit.PreparedStep
	if period := definition.Partition(by); period != "" && period != settings.Partition {
		settings.Partition = period
		steps = append(steps, commit.PreparedStep{Apply: editSettingsStep(func(s *definition.Settings) { s.Partition = period })})
	}
	if err := settings.CheckPartition(); err != nil {
		return result, &ArgumentError{Err: err}
	}
	result = PartitionResult{Partition: PartitionNone, Why: "the files are not divided by time", Version: versionOf(t.Metadata())}
	if settings.HasPeriods() {
		result.setPeriods(&series.Cutter{By: settings.Partition})
	}
	if settings.HasPeriods() && t.CurrentSnapshot() != nil {
		meta, err := definition.WithSettings(t.Metadata(), &settings)
		if err != nil {
			return result, err
		}
		step, err := e.prepareCompaction(ctx, e.Staged(meta, e.s.cat.NewIO()), e.prepareAll)
		if err != nil {
			return result, err
		}
		defer func() { step.IO.RemoveFailed(failure) }()
		result.setPeriods(step.cutter)
		result.FilesBefore, result.FilesAfter = len(step.result.OldDataFiles), len(step.result.NewDataFiles)
		if result.FilesBefore > 0 {
			steps = append(steps, commit.PreparedStep{IO: step.IO, Apply: step.apply})
		}
	}
	if len(steps) == 0 {
		return result, nil
	}
	t, err = e.Commit(ctx, steps...)
	if err != nil {
		return result, err
	}
	result.Version = versionOf(t.Metadata())
	return result, nil
}
