package tables

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// Settings configures a table. The zero value means a table without settings.
type Settings struct {
	// Time is the timestamp or date32 column that orders the rows. "" means the order of arrival.
	Time string `json:"time,omitempty"`

	// Keys are the columns that distinguish rows with equal times. Without Keys, rows with equal times are duplicates.
	Keys []string `json:"keys,omitempty"`

	OnDuplicate OnDuplicate `json:"on_duplicate,omitempty"` // the rule for rows with equal times and keys
	Partition   Partition   `json:"partition,omitempty"`    // length of the periods; each file has rows of one period
	Evolution   Evolution   `json:"evolution,omitempty"`    // the column changes that the table allows
	Compression Compression `json:"compression,omitempty"`  // the compression of new files

	// Maintenance is MaintenanceOn or MaintenanceOff; "" means that the caller of Maintain decides.
	Maintenance string `json:"maintenance,omitempty"`
	// KeepVersions and KeepAge let Maintain expire versions: it keeps at least the newest KeepVersions, and all that are
	// younger than KeepAge, a duration such as "720h". If both are zero, the options of Maintain decide.
	KeepVersions int    `json:"keep_versions,omitempty"`
	KeepAge      string `json:"keep_age,omitempty"`
}

// UnmarshalJSON reads a JSON object, and rejects unknown keys.
func (s *Settings) UnmarshalJSON(b []byte) error {
	d := s.definition()
	err := json.Unmarshal(b, d)
	*s = settingsOf(*d)
	return err
}

// definition returns the settings for package definition, or nil if s is nil.
func (s *Settings) definition() *definition.Settings {
	if s == nil {
		return nil
	}
	return &definition.Settings{
		Time: s.Time, Keys: s.Keys, OnDuplicate: definition.OnDuplicate(s.OnDuplicate), Partition: definition.Partition(s.Partition),
		Evolution: definition.Evolution(s.Evolution), Compression: definition.Compression(s.Compression),
		Maintenance: s.Maintenance, KeepVersions: s.KeepVersions, KeepAge: s.KeepAge,
	}
}

func settingsOf(d definition.Settings) Settings {
	return Settings{d.Time, d.Keys, OnDuplicate(d.OnDuplicate), Partition(d.Partition), Evolution(d.Evolution), Compression(d.Compression), d.Maintenance, d.KeepVersions, d.KeepAge}
}

// OnDuplicate is a rule for duplicates: rows with the same time and keys.
type OnDuplicate string

// Rules for duplicates. "" means KeepAll.
const (
	KeepAll         OnDuplicate = "keep_all"   // keeps all rows, in order of arrival
	KeepFirst       OnDuplicate = "keep_first" // keeps the row that arrived first
	KeepLast        OnDuplicate = "keep_last"  // keeps the row that arrived last
	RefuseDuplicate OnDuplicate = "error"      // rejects a put that contains or causes duplicates
)

// Partition is the length of the time periods that divide a table's files.
type Partition string

// Lengths of the periods, in UTC. "" means PartitionNone.
const (
	PartitionNone    Partition = "none"
	PartitionAuto    Partition = "auto" // months, quarters or years, depending on the time span of the rows
	PartitionDay     Partition = "day"
	PartitionMonth   Partition = "month"
	PartitionQuarter Partition = "quarter"
	PartitionYear    Partition = "year"
)

// Evolution specifies which column changes a table allows.
type Evolution string

// Kinds of Evolution. By default (""), a put never changes the table's columns: columns that the put lacks become null,
// narrower numbers in the put are widened to the table's types, and any other difference is an error. Evolve can make
// any change.
const (
	Strict     Evolution = "strict"     // puts must have exactly the table's columns and types
	AddOnly    Evolution = "add_only"   // like Strict, but puts can add columns
	Compatible Evolution = "compatible" // like AddOnly, but if the number types of the put and the table differ, the narrower type is widened
	Flexible   Evolution = "flexible"   // like Compatible, but columns that a put lacks become null, and Evolve can rename and drop columns
)

// Compression says whether a table's files are compressed for fast reads or for a small size.
type Compression string

// Kinds of Compression. "" means CompressFast. For each column, CompressFast chooses Snappy by default, zstd if only
// zstd saves much space or it saves far more, or no compression if neither saves much.
const (
	CompressFast  Compression = "fast"  // Snappy, zstd or no compression, chosen for each column
	CompressSmall Compression = "small" // zstd for every column
)

// Values of Settings.Maintenance.
const (
	MaintenanceOn  = definition.MaintenanceOn  // Maintain cares for the table, even if its option Requested is set
	MaintenanceOff = definition.MaintenanceOff // Maintain leaves the table alone
)

// Settings returns the table's settings in its selected state. In an old version, Time and Keys are those of the version; the
// others can be newer.
func (t *Table) Settings(ctx context.Context) (Settings, error) {
	return withView(ctx, t.reader(), "read the settings of", func(v *view) (Settings, error) {
		s := settingsOf(v.def.Settings)
		s.Keys = slices.Clone(s.Keys)
		return s, nil
	})
}

// SetSettings replaces a table's settings. If only is not nil, SetSettings changes only the settings with these JSON
// names, such as "keep_versions", and keeps concurrent changes of others; a zero value unsets a setting. If the change
// affects the order of the rows or the rule for duplicates, the same commit rewrites the table's files.
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
	return t.editSettings(op, bucket, name, func(current *definition.Settings) { definition.CopyNamed(current, s.definition(), only) })
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

// editSettingsStep returns a step that edits a table's settings, and rewrites all its files if the edit changes the
// order of the rows or the rule for duplicates.
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
		added, err := newSeries.Rewrite(ctx, files, newSeries, newSeries.Merging(), sorted.MapBatches(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
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
