package definition

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/nearest"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// ArgumentError says what is wrong with what an operation was given.
type ArgumentError struct{ Err error }

func (e *ArgumentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ArgumentError) Unwrap() error { return e.Err }

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

// settingNames are the keys that settings have in JSON.
var settingNames = []string{"time", "keys", "on_duplicate", "partition", "evolution"}

// plain is Settings as they are kept, perhaps by another version of this module.
type plain Settings

// UnmarshalJSON refuses a key that settings do not have: somebody meant one of them.
func (s *Settings) UnmarshalJSON(b []byte) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(b, &given); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(settingNames, key) {
			return &ArgumentError{fmt.Errorf("settings: there is no setting %q%s: there are %q", key, nearest.Hint(key, settingNames), settingNames)}
		}
	}
	return json.Unmarshal(b, (*plain)(s))
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

// SettingsProperty is the property of a table that its settings are kept in.
const SettingsProperty = "partd.settings"

// ParseSettings reads the property with the settings.
func ParseSettings(text string) (s Settings, err error) {
	if text != "" {
		if err := json.Unmarshal([]byte(text), (*plain)(&s)); err != nil {
			return s, fmt.Errorf("property %s: %w", SettingsProperty, err)
		}
	}
	return s, nil
}

// property returns the settings as they are kept, after they were checked
// against the columns of a table.
func (s Settings) property(schema *arrow.Schema) (string, error) {
	if err := errors.Join(s.Evolution.Check(), s.CheckPartition(), s.checkOrder(schema)); err != nil {
		return "", &ArgumentError{fmt.Errorf("settings: %w", err)}
	}
	b, err := json.Marshal(s)
	if string(b) == "{}" {
		return "", err
	}
	return string(b), err
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
	ordering := s.Order()
	for i, name := range ordering {
		at, err := schema.Place(columns, name)
		if err != nil {
			return err
		}
		t := columns.Field(at).Type
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

// Order returns the names of the columns that a row's place and identity come from.
func (s Settings) Order() []string {
	if s.Time == "" {
		return s.Keys
	}
	return append([]string{s.Time}, s.Keys...)
}

// The periods by which files are cut. "" is PartitionNone. Periods are those of UTC.
const (
	PartitionNone    Partition = "none"
	PartitionAuto    Partition = "auto" // by months, quarters or years, as long as the rows' time is
	PartitionDay     Partition = "day"
	PartitionMonth   Partition = "month"
	PartitionQuarter Partition = "quarter"
	PartitionYear    Partition = "year"
)

// CheckPartition refuses periods that there are not.
func (s Settings) CheckPartition() error {
	all := []Partition{"", PartitionNone, PartitionAuto, PartitionDay, PartitionMonth, PartitionQuarter, PartitionYear}
	if !slices.Contains(all, s.Partition) {
		return fmt.Errorf("there is no partition %q: there are %q", s.Partition, all[1:])
	}
	if s.Cuts() && s.Time == "" {
		return fmt.Errorf("the partition by %s needs a time column", s.Partition)
	}
	return nil
}

// Cuts reports whether files are cut by periods.
func (s Settings) Cuts() bool { return s.Partition != "" && s.Partition != PartitionNone }

// Next returns the beginning of the period after the one that a time is in.
func (p Partition) Next(t time.Time) time.Time {
	year, month, day := t.UTC().Date()
	switch p {
	case PartitionDay:
		return date(year, month, day+1)
	case PartitionMonth:
		return date(year, month+1, 1)
	case PartitionQuarter:
		return date(year, month-(month-1)%3+3, 1)
	}
	return date(year+1, 1, 1)
}

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}
