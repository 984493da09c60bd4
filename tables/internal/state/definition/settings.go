package definition

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// ArgumentError is the error of an operation with invalid arguments.
type ArgumentError struct{ Err error }

func (e *ArgumentError) Error() string { return e.Err.Error() }

func (e *ArgumentError) Unwrap() error { return e.Err }

// Settings configures a table. The zero value is the default.
type Settings struct {
	// Time is the column that orders the rows: a timestamp or a date32. If it is "", rows stay in order of arrival.
	Time string `json:"time,omitempty"`
	// Keys are the columns that distinguish rows with equal times. Without keys, rows with equal times are duplicates.
	Keys []string `json:"keys,omitempty"`
	// OnDuplicate is the rule for rows with equal Time and Keys.
	OnDuplicate OnDuplicate `json:"on_duplicate,omitempty"`

	Partition Partition `json:"partition,omitempty"`
	Evolution Evolution `json:"evolution,omitempty"`
	// Compression applies to files written from now on.
	Compression Compression `json:"compression,omitempty"`

	Maintenance  string `json:"maintenance,omitempty"`   // MaintenanceOn, MaintenanceOff or ""
	KeepVersions int    `json:"keep_versions,omitempty"` // number of versions that maintenance keeps
	KeepAge      string `json:"keep_age,omitempty"`      // age up to which maintenance keeps versions, as a Go duration
}

// Values of Settings.Maintenance. "" means that the server decides.
const (
	MaintenanceOn  = "on"
	MaintenanceOff = "off"
)

// Keep returns the limits for expiring versions. If both are 0, the table does not set them.
func (s Settings) Keep() (versions int, age time.Duration) {
	age, _ = time.ParseDuration(s.KeepAge) // checkMaintenance has rejected invalid ages
	return s.KeepVersions, age
}

func (s Settings) checkMaintenance() error {
	err := checkKnown("maintenance", s.Maintenance, MaintenanceOn, MaintenanceOff)
	if age, parseErr := time.ParseDuration(s.KeepAge); s.KeepAge != "" && (parseErr != nil || age <= 0) {
		err = fmt.Errorf("keep_age is %q: use a positive duration such as 720h", s.KeepAge)
	}
	if s.KeepVersions < 0 {
		err = fmt.Errorf("keep_versions is %d: it must not be negative", s.KeepVersions)
	}
	return err
}

// settingNames lists the JSON names of the fields of Settings, in declaration order.
var settingNames = []string{"time", "keys", "on_duplicate", "partition", "evolution", "compression", "maintenance", "keep_versions", "keep_age"}

// storedSettings is like Settings, but accepts unknown JSON keys, because a later version of this module may have
// written them.
type storedSettings Settings

// UnmarshalJSON rejects unknown keys, which are probably misspelled.
func (s *Settings) UnmarshalJSON(b []byte) error {
	var settings map[string]json.RawMessage
	if err := json.Unmarshal(b, &settings); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if err := CheckNames(slices.Sorted(maps.Keys(settings))); err != nil {
		return err
	}
	return json.Unmarshal(b, (*storedSettings)(s))
}

// CheckNames returns an error if one of names is not the JSON name of a setting.
func CheckNames(names []string) error {
	for _, name := range names {
		if !slices.Contains(settingNames, name) {
			return &ArgumentError{fmt.Errorf("settings: unknown setting %q%s: use one of %q", name, textfmt.Hint(name, settingNames), settingNames)}
		}
	}
	return nil
}

// CopyNamed copies the settings with the given JSON names from src to dst, or all settings if names is nil. T must have
// the fields of Settings, in the same order.
func CopyNamed[T any](dst, src *T, names []string) {
	to, from := reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem()
	for i, name := range settingNames {
		if names == nil || slices.Contains(names, name) {
			to.Field(i).Set(from.Field(i))
		}
	}
}

// OnDuplicate is a rule for rows with equal time and keys.
type OnDuplicate string

// The rules for duplicates. "" is KeepAll.
const (
	KeepAll         OnDuplicate = "keep_all"   // all rows are kept, in order of arrival
	KeepFirst       OnDuplicate = "keep_first" // the first row is kept
	KeepLast        OnDuplicate = "keep_last"  // the last row is kept
	RefuseDuplicate OnDuplicate = "error"      // a put that contains or creates duplicates fails
)

// Partition is the longest period that a single data file may cover, such as a day. Files end at the ends of periods.
type Partition string

// Compression says whether a table's files are compressed for speed or for size.
type Compression string

// The kinds of compression. "" is CompressFast, which chooses for each column: no compression if it would save little,
// zstd if it saves much more than Snappy, and otherwise Snappy.
const (
	CompressFast  Compression = "fast"  // Snappy, zstd or no compression, chosen for each column
	CompressSmall Compression = "small" // zstd for every column
)

// checkKnown returns an error unless value is "", the default, or one of known.
func checkKnown[T ~string](kind string, value T, known ...T) error {
	if value != "" && !slices.Contains(known, value) {
		return fmt.Errorf("unknown %s %q: use one of %q", kind, value, known)
	}
	return nil
}

// codec returns the value for Iceberg's compression property, which tells other programs how to compress.
func (c Compression) codec() string {
	if c == CompressSmall {
		return "zstd"
	}
	return "snappy"
}

// SettingsProperty is the table property that contains the settings.
const SettingsProperty = "partd.settings"

// ParseSettings parses the value of SettingsProperty.
func ParseSettings(text string) (Settings, error) {
	s, err := icecat.ParseProperty[storedSettings](SettingsProperty, text)
	return Settings(s), err
}

// property checks the settings against a table's columns and returns the value of SettingsProperty.
func (s Settings) property(schema *arrow.Schema) (string, error) {
	if err := errors.Join(s.Evolution.Check(), s.CheckPartition(), checkKnown("compression", s.Compression, CompressFast, CompressSmall), s.checkMaintenance(), s.checkOrder(schema)); err != nil {
		return "", &ArgumentError{fmt.Errorf("settings: %w", err)}
	}
	b, err := json.Marshal(s)
	if string(b) == "{}" {
		return "", err
	}
	return string(b), err
}

func (s Settings) checkOrder(columns *arrow.Schema) error {
	if err := checkKnown("rule for duplicates", s.OnDuplicate, KeepAll, KeepFirst, KeepLast, RefuseDuplicate); err != nil {
		return err
	}
	if s.Time == "" && s.OnDuplicate != "" && s.OnDuplicate != KeepAll {
		return fmt.Errorf("the rule %s for duplicates needs a time column", s.OnDuplicate)
	}
	ordering := s.Order()
	for i, name := range ordering {
		index, err := schema.ColumnIndex(columns, name)
		if err != nil {
			return err
		}
		t := columns.Field(index).Type
		if s.Time != "" && i == 0 {
			if t.ID() != arrow.TIMESTAMP && t.ID() != arrow.DATE32 {
				return schema.Errorf(name, "it has type %s, but a time column must be a timestamp or date32", t)
			}
			continue
		}
		if slices.Index(ordering, name) != i {
			return schema.Errorf(name, "it appears twice among the time and key columns")
		}
		if !sorted.HasOrder(t) {
			return schema.Errorf(name, "it has type %s, which cannot be a key", t)
		}
	}
	return nil
}

// Order returns the names of the columns that order and identify rows: the time column and the keys.
func (s Settings) Order() []string {
	if s.Time == "" {
		return s.Keys
	}
	return append([]string{s.Time}, s.Keys...)
}

// The periods that divide files, in UTC. "" is PartitionNone.
const (
	PartitionNone    Partition = "none"
	PartitionAuto    Partition = "auto" // months, quarters or years, depending on the time between the first and the last row
	PartitionDay     Partition = "day"
	PartitionMonth   Partition = "month"
	PartitionQuarter Partition = "quarter"
	PartitionYear    Partition = "year"
)

// CheckPartition returns an error if the partition is unknown or needs a time column that is not set.
func (s Settings) CheckPartition() error {
	err := checkKnown("partition", s.Partition, PartitionNone, PartitionAuto, PartitionDay, PartitionMonth, PartitionQuarter, PartitionYear)
	if err == nil && s.HasPeriods() && s.Time == "" {
		err = fmt.Errorf("the partition by %s needs a time column", s.Partition)
	}
	return err
}

// HasPeriods reports whether files are divided by periods.
func (s Settings) HasPeriods() bool { return s.Partition != "" && s.Partition != PartitionNone }

// NextStart returns the start of the first period after t.
func (p Partition) NextStart(t time.Time) time.Time {
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
