package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// Settings of a table. The zero value is that of a table without any.
type Settings struct {
	// Time is the column that the table's rows are ordered by: a timestamp or a
	// date32. "" means none: rows are read as they came.
	Time string `json:"time,omitempty"`
	// Keys are the columns that tell rows of equal time apart. Without them each
	// time is a key by itself.
	Keys []string `json:"keys,omitempty"`
	// OnDuplicate says what becomes of rows that are equal in Time and Keys.
	OnDuplicate OnDuplicate `json:"on_duplicate,omitempty"`

	Partition Partition `json:"partition,omitempty"`
	Evolution Evolution `json:"evolution,omitempty"`
}

// OnDuplicate says what becomes of rows that are equal in time and keys.
type OnDuplicate string

// The rules for duplicates. "" is KeepAll.
const (
	KeepAll         OnDuplicate = "keep_all"   // all are kept, in the order in which they came
	KeepFirst       OnDuplicate = "keep_first" // the one that came first is kept
	KeepLast        OnDuplicate = "keep_last"  // the one that came last is kept, whatever else is in it
	RefuseDuplicate OnDuplicate = "error"      // a put that has or makes duplicates is refused
)

// Partition says by which periods of time a table's files are cut.
type Partition string

// Evolution says which changes of its columns a table takes.
type Evolution string

// settingsProperty is the property of a table that its settings are kept in.
const settingsProperty = "partd.settings"

// settingsOf returns the settings that a table's properties have.
func settingsOf(properties iceberg.Properties) (Settings, error) {
	var s Settings
	if text := properties[settingsProperty]; text != "" {
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return s, fmt.Errorf("property %s: %w", settingsProperty, err)
		}
	}
	return s, nil
}

// property returns the settings as they are kept, after they were checked
// against the columns of a table.
func (s Settings) property(schema *arrow.Schema) (string, error) {
	if err := s.check(schema); err != nil {
		return "", &ArgumentError{fmt.Errorf("settings: %w", err)}
	}
	b, err := json.Marshal(s)
	if string(b) == "{}" {
		return "", err
	}
	return string(b), err
}

// check refuses settings that a table with these columns cannot have.
func (s Settings) check(schema *arrow.Schema) error {
	return errors.Join(s.Evolution.check(), s.checkPartition(), s.checkOrder(schema))
}

// checkOrder checks the columns that order the rows.
func (s Settings) checkOrder(columns *arrow.Schema) error {
	rules := []OnDuplicate{"", KeepAll, KeepFirst, KeepLast, RefuseDuplicate}
	switch {
	case !slices.Contains(rules, s.OnDuplicate):
		return fmt.Errorf("there is no rule %q for duplicates: there are %q", s.OnDuplicate, rules[1:])
	case s.Time == "" && s.OnDuplicate != "" && s.OnDuplicate != KeepAll:
		return fmt.Errorf("the rule %s for duplicates needs a time column", s.OnDuplicate)
	}
	ordering := s.order()
	for i, name := range ordering {
		at := columns.FieldIndices(name)
		if len(at) == 0 {
			return schema.Errorf(name, "the table has no such column, only %q", schema.Names(columns))
		}
		t := columns.Field(at[0]).Type
		if s.Time != "" && i == 0 {
			if t.ID() != arrow.TIMESTAMP && t.ID() != arrow.DATE32 {
				return schema.Errorf(name, "it has type %s: a time column is a timestamp or a date32", t)
			}
			continue
		}
		if slices.Index(ordering, name) != i {
			return schema.Errorf(name, "it is named twice among the time and key columns")
		}
		if !sorted.HasOrder(t) {
			return schema.Errorf(name, "it has type %s, which a key cannot have", t)
		}
	}
	return nil
}

// order returns the names of the columns that a row's place and identity come from.
func (s Settings) order() []string {
	if s.Time == "" {
		return s.Keys
	}
	return append([]string{s.Time}, s.Keys...)
}

// Settings returns the table's settings as they are now.
func (t *Table) Settings(ctx context.Context) (Settings, error) {
	v, err := t.view(ctx, false)
	if err != nil {
		return Settings{}, t.error("read the settings of", err)
	}
	s, err := settingsOf(v.t.Metadata().Properties())
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
	s, err := settingsOf(meta.Properties())
	if err != nil {
		return nil, err
	}
	edit(&s)
	return withSettings(meta, &s)
}

func (edit settingsStep) apply(ctx context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if cur == nil {
		return nil, ErrNotFound
	}
	was, err := orderOf(cur.Metadata())
	if err != nil {
		return nil, err
	}
	meta, err := edit.applied(cur.Metadata())
	if err != nil {
		return nil, err
	}
	is, err := orderOf(meta)
	if err != nil || is == nil || was != nil && was.sort == is.sort && (was.rule == is.rule || is.rule == "" || is.rule == KeepAll) {
		return meta, err
	}
	return a.s.reordered(ctx, is, a.table(meta))
}

// withSettings returns metadata with settings; with those it has, which must fit
// its columns, if s is nil.
func withSettings(meta table.Metadata, s *Settings) (table.Metadata, error) {
	if s == nil {
		has, err := settingsOf(meta.Properties())
		if err != nil {
			return nil, err
		}
		s = &has
	}
	returned, err := returnedSchema(meta.CurrentSchema(), meta.Properties())
	if err != nil {
		return nil, err
	}
	text, err := s.property(returned)
	if err != nil {
		return nil, err
	}
	ups, err := s.sortUpdates(meta)
	if err != nil {
		return nil, err
	}
	props := iceberg.Properties{settingsProperty: text}
	if s.Time != "" { // of a table of many columns, too, whose files have bounds of the first ones alone
		props[table.MetricsModeColumnConfPrefix+"."+s.Time] = "full"
	}
	for k, v := range props {
		if meta.Properties()[k] == v {
			delete(props, k)
		}
	}
	if len(props) > 0 {
		ups = append(ups, table.NewSetPropertiesUpdate(props))
	}
	var gone []string // of columns that there are no more, which other programs refuse
	for k := range meta.Properties() {
		if name, ok := strings.CutPrefix(k, table.MetricsModeColumnConfPrefix+"."); ok && !returned.HasField(name) {
			gone = append(gone, k)
		}
	}
	if len(gone) > 0 {
		ups = append(ups, table.NewRemovePropertiesUpdate(gone))
	}
	return table.UpdateTableMetadata(meta, ups, "")
}
