package definition

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
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

func historyOf(meta table.Metadata) (past []pastSettings, err error) {
	if text := meta.Properties()[HistoryProperty]; text != "" {
		err = json.Unmarshal([]byte(text), &past)
		if err != nil {
			err = fmt.Errorf("property %s: %w", HistoryProperty, err)
		}
	}
	return past, err
}

// ForSnapshot returns the definition that a version of a table had: its columns, and the settings that order its rows.
// The table's rules are the current ones.
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
	if err != nil && k.settings != "" { // another program can have committed a version with older columns
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
	past, _ := historyOf(after) // the record starts again if it is invalid
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
