package tables

import (
	"encoding/json"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/state/definition"
)

// Settings configures a table. The zero value means a table without settings.
type Settings struct {
	// Time is the timestamp or date32 column that orders the rows. "" means the order of arrival.
	Time string `json:"time,omitempty"`

	// Keys are the columns that distinguish rows with equal times. Without Keys, rows with equal times are duplicates.
	Keys []string `json:"keys,omitempty"`

	OnDuplicate OnDuplicate `json:"on_duplicate,omitempty"` // the rule for rows with equal times and keys
	Partition   Partition   `json:"partition,omitempty"`    // length of the time period that the rows of a file may span
	Evolution   Evolution   `json:"evolution,omitempty"`    // the column changes that the table allows
	Compression Compression `json:"compression,omitempty"`  // how new files are compressed

	// Maintenance is MaintenanceOn or MaintenanceOff; "" means that MaintainOptions.Requested decides.
	Maintenance string `json:"maintenance,omitempty"`
	// KeepVersions and KeepAge let Maintain expire versions. It keeps the newest KeepVersions versions, and all
	// versions younger than KeepAge, a duration such as "720h". If both are zero, the options of Maintain decide.
	KeepVersions int    `json:"keep_versions,omitempty"`
	KeepAge      string `json:"keep_age,omitempty"`
}

// UnmarshalJSON decodes a JSON object. It rejects unknown keys.
func (s *Settings) UnmarshalJSON(b []byte) error {
	d := s.toDefinition()
	err := json.Unmarshal(b, d)
	*s = settingsOf(*d)
	return err
}

// toDefinition converts s to a definition.Settings. It returns nil if s is nil.
func (s *Settings) toDefinition() *definition.Settings {
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

// Partition is the length of the time periods by which a table's rows are divided into files.
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

// Kinds of Evolution. With the default, "", a put cannot change the columns, except that a column of type null gets the
// put's type. Columns that the put lacks become null, narrower numbers in the put are widened to the table's types, and
// any other difference is an error. Evolve can make any change.
const (
	Strict     Evolution = "strict"     // puts must have exactly the table's columns and types
	AddOnly    Evolution = "add_only"   // like Strict, but puts can add columns
	Compatible Evolution = "compatible" // like AddOnly, but if the number types of the put and the table differ, the narrower type is widened
	Flexible   Evolution = "flexible"   // like Compatible, but columns that a put lacks become null, and Evolve can rename and drop columns
)

// Compression says whether a table's files are compressed for fast reads or for a small size.
type Compression string

// Kinds of Compression. "" means CompressFast, which chooses for each column: no compression if it would save little,
// zstd if only zstd saves enough or if it saves much more than Snappy, and otherwise Snappy.
const (
	CompressFast  Compression = "fast"  // Snappy, zstd or no compression, chosen for each column
	CompressSmall Compression = "small" // zstd for every column
)

// Values of Settings.Maintenance.
const (
	MaintenanceOn  = definition.MaintenanceOn  // Maintain includes the table, even if MaintainOptions.Requested is set
	MaintenanceOff = definition.MaintenanceOff // Maintain skips the table
)

// ColumnChange is a change to one column of a table.
type ColumnChange struct {
	Op     ColumnOp   `json:"op"`
	Column string     `json:"column"`
	To     string     `json:"to,omitempty"`   // the new name, for RenameColumn
	Type   ColumnType `json:"type,omitempty"` // the new type, for AddColumn and WidenColumn

	field arrow.Field // the column of the put that requires the change; its type is used if Type is ""
}

// ColumnOp is the kind of a ColumnChange.
type ColumnOp string

// Kinds of ColumnChange. A table that allows one of them also allows those listed before it.
const (
	AddColumn    ColumnOp = "add"
	WidenColumn  ColumnOp = "widen" // widen an integer or float type, or replace the null type with any type
	RenameColumn ColumnOp = "rename"
	DropColumn   ColumnOp = "drop"
)

// ColumnType is a type in Arrow's notation, such as int64 or timestamp[us, tz=UTC].
type ColumnType string

// ColumnTypeOf returns t in Arrow's notation. t must not be nested.
func ColumnTypeOf(t arrow.DataType) ColumnType { return ColumnType(t.String()) }

// Rule is a condition that every new row of a table must satisfy. If any row violates a rule, the whole put is
// rejected. Existing rows are not checked.
//
// If a put lacks the column of an exists or not_null rule, the put violates the rule. Every other rule is satisfied if
// the table lacks the rule's column. If only the put lacks the column, its values count as null.
type Rule struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`               // exists, type, range, not_null, unique, sorted, regexp or expression
	Column   string `json:"column,omitempty"`   // the column; not used for unique and expression
	Type     string `json:"type,omitempty"`     // for type: the type, in Arrow's notation
	Min      string `json:"min,omitempty"`      // for range: the smallest allowed value, written as in a filter but without quotes
	Max      string `json:"max,omitempty"`      // for range: the largest allowed value
	Pattern  string `json:"pattern,omitempty"`  // for regexp: a regular expression (see package regexp) that must match a part of the value
	Where    string `json:"where,omitempty"`    // for expression: a filter that must not be false for any row
	Disabled bool   `json:"disabled,omitempty"` // keep the rule, but do not apply it

	// Columns is for unique: no two rows of a put may have equal values in these columns. Rows with a null are ignored.
	Columns []string `json:"columns,omitempty"`

	InTable bool `json:"in_table,omitempty"` // for unique: whether to also compare the put with all rows of the table
}

// RuleEdit is a change to the rules of a table or a bucket.
type RuleEdit struct {
	Add  []Rule   `json:"add,omitempty"`  // rules to add; each replaces an existing rule with the same name
	Sets []string `json:"sets,omitempty"` // predefined sets of rules to add: time_series or prices

	// Time is the column that the predefined rules treat as time. "" means the time column in the settings, or else the
	// first timestamp or date32 column, or else "time".
	Time string `json:"time,omitempty"`

	Remove  []string `json:"remove,omitempty"` // names of rules
	Disable []string `json:"disable,omitempty"`
	Enable  []string `json:"enable,omitempty"`
}
