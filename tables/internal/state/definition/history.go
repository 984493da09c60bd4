package definition

import (
	"encoding/json"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// HistoryProperty is the table property that contains the settings of earlier versions, as JSON, because Iceberg
// records only a version's columns.
const HistoryProperty = "partd.past-settings"

// pastSettings are settings that were replaced by settings with a different row order.
type pastSettings struct {
	Until    int64  `json:"until"`    // the last version with the settings
	Sort     int    `json:"sort"`     // ID of the version's sort order
	Settings string `json:"settings"` // value of SettingsProperty
}

func historyOf(meta table.Metadata) ([]pastSettings, error) {
	return icecat.ParseProperty[[]pastSettings](HistoryProperty, meta.Properties()[HistoryProperty])
}

// ForSnapshot returns the definition of a version of a table: the version's columns and row order, but the table's
// current rules.
func ForSnapshot(meta table.Metadata, s *table.Snapshot) (*Definition, error) {
	past, err := historyOf(meta)
	if err != nil {
		return nil, err
	}
	columns := meta.CurrentSchema()
	i := slices.IndexFunc(meta.Schemas(), func(c *iceberg.Schema) bool { return s.SchemaID != nil && c.ID == *s.SchemaID })
	if i >= 0 {
		columns = meta.Schemas()[i]
	}
	k := keyOf(meta, columns)
	i = slices.IndexFunc(past, func(p pastSettings) bool { return s.SequenceNumber <= p.Until })
	if i >= 0 && meta.Version() > 1 { // format version 1 of Iceberg does not number versions
		k.sort, k.settings = past[i].Sort, past[i].Settings
	}
	d, err := forKey(columns, k)
	if err != nil && k.settings != "" { // another program may have committed a version with older columns
		k.sort, k.settings = 0, ""
		d, err = forKey(columns, k)
	}
	return d, err
}

// WithHistory returns after, a table's metadata after a change. If the change replaces the order that the rows had
// before, WithHistory records the old order.
func WithHistory(before, after table.Metadata) (table.Metadata, error) {
	old, err := FromMetadata(before)
	if err != nil || before.TableUUID() != after.TableUUID() {
		return after, nil // the table was damaged, or this is another table
	}
	d, err := FromMetadata(after)
	if err != nil || old.ordersLike(d) {
		return after, err
	}
	until := before.LastSequenceNumber()
	if s := after.CurrentSnapshot(); s != nil && s.SchemaID != nil && *s.SchemaID != d.Columns.ID {
		until = after.LastSequenceNumber() // the change first moved rows from the tail to files
	}
	past, _ := historyOf(after) // if the history is invalid, it starts again
	past = slices.DeleteFunc(past, func(p pastSettings) bool {
		return !slices.ContainsFunc(after.Snapshots(), func(s table.Snapshot) bool { return s.SequenceNumber <= p.Until })
	})
	text, err := json.Marshal(append(past, pastSettings{until, old.key.sort, old.key.settings}))
	if err != nil {
		return nil, err
	}
	return table.UpdateTableMetadata(after, []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{HistoryProperty: string(text)})}, "")
}

// IsCurrent reports whether a table's newest version has the table's current columns and row order.
func IsCurrent(meta table.Metadata) bool {
	s := meta.CurrentSnapshot()
	if s == nil {
		return true
	}
	current, err1 := FromMetadata(meta)
	d, err2 := ForSnapshot(meta, s)
	return err1 != nil || err2 != nil || d.Columns.ID == current.Columns.ID && d.ordersLike(current)
}

// ordersLike reports whether d and other have the same time and key columns, and the same sort order.
func (d *Definition) ordersLike(other *Definition) bool {
	if d.Settings.Time != other.Settings.Time || !slices.Equal(d.Settings.Keys, other.Settings.Keys) {
		return false
	}
	return d.Order == nil || d.Order.Sort == other.Order.Sort && slices.Equal(d.Order.IDs, other.Order.IDs)
}

// ReplacementsProperty is the table property that lists the table's replacements, in order, as JSON.
const ReplacementsProperty = "partd.replacements"

// MaxRecords limits the recorded replacements and, separately, the recorded restores. Once there are that many, earlier
// ones may be missing.
const MaxRecords = 100

// Replacement describes a change that replaced all rows of a table and its columns.
type Replacement struct {
	Version    int64 `json:"version"`     // the first version with the new columns
	Schema     int   `json:"schema"`      // ID of the new schema
	LastColumn int   `json:"last_column"` // highest column ID that the table had ever used
	Restore    bool  `json:"restore,omitempty"`
}

// Replacements returns a table's replacements, in order.
func Replacements(meta table.Metadata) ([]Replacement, error) {
	return icecat.ParseProperty[[]Replacement](ReplacementsProperty, meta.Properties()[ReplacementsProperty])
}

// WithReplacement returns after, a table's metadata after a change that replaces all rows. It records the replacement
// in the metadata unless before has the same columns.
func WithReplacement(before, after table.Metadata, isRestore bool) (table.Metadata, error) {
	old, err := FromMetadata(before)
	if err == nil && old.hasColumnsOf(after) {
		return after, nil
	}
	all, err := Replacements(after)
	if err != nil {
		return nil, err
	}
	all = append(all, Replacement{before.LastSequenceNumber() + 1, after.CurrentSchema().ID, after.LastColumnID(), isRestore})
	text, err := json.Marshal(all[max(0, len(all)-MaxRecords):])
	if err != nil {
		return nil, err
	}
	return table.UpdateTableMetadata(after, []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{ReplacementsProperty: string(text)})}, "")
}

// hasColumnsOf reports whether the columns of d and meta have the same IDs, names and types.
func (d *Definition) hasColumnsOf(meta table.Metadata) bool {
	other, err := FromMetadata(meta)
	return err == nil && slices.EqualFunc(d.Columns.Fields(), other.Columns.Fields(), func(a, b iceberg.NestedField) bool {
		return a.ID == b.ID && a.Name == b.Name && a.Required == b.Required && a.Type.Equals(b.Type)
	}) && slices.EqualFunc(d.Logical.Fields(), other.Logical.Fields(), func(a, b arrow.Field) bool {
		return arrow.TypeEqual(a.Type, b.Type) && schema.CheckValues(a, b) == nil
	})
}

// ReplacedColumns returns a function that reports whether the table's last replacement removed the field with a given
// ID, or found it already removed.
func ReplacedColumns(meta table.Metadata) (func(id int) bool, error) {
	all, err := Replacements(meta)
	if err != nil || len(all) == 0 {
		return func(int) bool { return false }, err
	}
	last, columns := all[len(all)-1], meta.CurrentSchema()
	for _, s := range meta.Schemas() {
		if s.ID == last.Schema {
			columns = s
		}
	}
	return func(id int) bool {
		_, ok := columns.FindFieldByID(id)
		return !ok && id <= last.LastColumn
	}, nil
}
