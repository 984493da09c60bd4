package definition

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// ReplacementsProperty is the table property that lists the table's replacements, in order, as JSON.
const ReplacementsProperty = "partd.replacements"

// MaxRecords is the maximum number of recorded replacements, and of recorded restores. If there are as many, earlier ones
// may be forgotten.
const MaxRecords = 100

// Replacement describes a change that replaced all rows of a table, and also its columns.
type Replacement struct {
	Version    int64 `json:"version"`     // the first version with the new columns
	Schema     int   `json:"schema"`      // ID of the new schema
	LastColumn int   `json:"last_column"` // highest column ID that the table had ever used
	Restore    bool  `json:"restore,omitempty"`
}

// Replacements returns a table's replacements, in order.
func Replacements(meta table.Metadata) (all []Replacement, err error) {
	if text := meta.Properties()[ReplacementsProperty]; text != "" {
		err = json.Unmarshal([]byte(text), &all)
		if err != nil {
			err = fmt.Errorf("property %s: %w", ReplacementsProperty, err)
		}
	}
	return all, err
}

// WithReplacement returns after, a table's metadata with the columns of a change that replaces all rows. It adds the
// replacement to the metadata unless before has the same columns.
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
