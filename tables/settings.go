package tables

import (
	"context"
	"errors"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/definition"
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
	v, err := t.view(ctx, false)
	if err != nil {
		return Settings{}, t.error("read the settings of", err)
	}
	s, err := definition.SettingsOf(v.t.Metadata())
	if err != nil {
		return s, t.error("read the settings of", err)
	}
	return s, nil
}

// SetSettings sets a table's settings as a whole. Where these order its rows in
// another way, or have another rule for duplicates, its files are written anew by
// them, in the same commit.
func (b *Bucket) SetSettings(ctx context.Context, name string, s Settings) error {
	err := b.s.Update(ctx, func(t *Txn) error { return t.SetSettings(b.name, name, s) })
	var op *OpError
	if errors.As(err, &op) {
		err = &OpError{Op: "set the settings of", Bucket: b.name, Table: name, Err: op.Err}
	}
	return err
}

// SetSettings sets a table's settings as a whole; see Bucket.SetSettings.
func (t *Txn) SetSettings(bucket, name string, s Settings) error {
	return t.editSettings("set the settings of", bucket, name, func(now *Settings) { *now = s })
}

func (t *Txn) editSettings(op, bucket, name string, edit settingsStep) (err error) {
	defer failed(&err, op, bucket, name)
	c, err := t.existing(bucket, name)
	if err != nil {
		return err
	}
	meta, err := edit.applied(c.cur.Metadata())
	if err != nil {
		return err
	}
	c.add(edit)
	c.cur = t.s.cat.Staged(c.e.Namespace, c.e.Name, meta, "", t.s.cat.NewIO())
	return nil
}

// settingsStep changes the settings.
type settingsStep func(*Settings)

// applied returns metadata with the settings changed.
func (edit settingsStep) applied(meta table.Metadata) (table.Metadata, error) {
	s, err := definition.SettingsOf(meta)
	if err != nil {
		return nil, err
	}
	edit(&s)
	return definition.WithSettings(meta, &s)
}

func (edit settingsStep) apply(ctx context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if cur == nil {
		return nil, ErrNotFound
	}
	before, err := definition.Of(cur.Metadata())
	if err != nil {
		return nil, err
	}
	meta, err := edit.applied(cur.Metadata())
	if err != nil {
		return nil, err
	}
	after, err := definition.Of(meta)
	if err != nil {
		return nil, err
	}
	was, is := before.Order, after.Order
	if is == nil || was != nil && was.Sort == is.Sort && (was.Rule == is.Rule || is.Rule == "" || is.Rule == KeepAll) {
		return meta, err
	}
	return a.s.reordered(ctx, a.table(meta))
}
