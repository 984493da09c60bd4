package definition

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// MaxFieldID is the highest ID of a column. Iceberg reserves higher ones.
const MaxFieldID = math.MaxInt32 - 200

var metricsMode = regexp.MustCompile(`^\s*(?i:none|counts|full|truncate\([0-9]{0,8}[1-9][0-9]{0,8}\))\s*$`)

// CheckFoldable returns an error if a metadata change has definitions that the table's files cannot contain, such as
// too many columns, because later folds would then fail. base is the table before the change, or nil. changed is nil if
// the change deletes the table.
func CheckFoldable(base *table.Table, changed table.Metadata) error {
	// in bytes: below the 1 MiB limit for a value in a manifest's header, because folds can make columns optional,
	// which adds bytes
	const maxHeader = 1<<20 - 1<<16
	if changed == nil {
		return nil
	}
	var old table.Metadata
	var oldProperties iceberg.Properties
	if base != nil {
		old, oldProperties = base.Metadata(), base.Properties()
	}
	for k, v := range changed.Properties() {
		isMode := k == table.DefaultWriteMetricsModeKey || strings.HasPrefix(k, table.MetricsModeColumnConfPrefix+".")
		if was, isSet := oldProperties[k]; isMode && !metricsMode.MatchString(v) && (!isSet || was != v) {
			return &ArgumentError{fmt.Errorf("the property %q has the invalid value %.40q", k, v)}
		}
	}
	columns, spec, order := changed.CurrentSchema(), changed.PartitionSpec(), changed.SortOrder()
	if old != nil {
		oldSpec, oldOrder := old.PartitionSpec(), old.SortOrder()
		if old.CurrentSchema().Equals(columns) && old.CurrentSchema().ID == columns.ID && old.LastColumnID() == changed.LastColumnID() &&
			oldSpec.Equals(spec) && oldOrder.OrderID() == order.OrderID() {
			return nil
		}
	}
	byID, err := iceberg.IndexByID(columns)
	if err != nil {
		return err
	}
	ids := append(slices.Collect(maps.Keys(byID)), max(1, changed.LastColumnID()))
	fields := []iceberg.PartitionField{}
	for _, f := range spec.Fields() {
		fields = append(fields, f)
		ids = append(ids, f.FieldID)
	}
	if low, high := slices.Min(ids), slices.Max(ids); low < 1 || high > MaxFieldID {
		return &ArgumentError{fmt.Errorf("the columns or partition fields of the table have ids from %d to %d: Iceberg allows ids from 1 to %d", low, high, MaxFieldID)}
	}
	for name, id := range map[string]int{"schema": columns.ID, "partition spec": spec.ID(), "sort order": order.OrderID()} {
		if id < 0 || id > math.MaxInt32 {
			return &ArgumentError{fmt.Errorf("the %s has the id %d: Iceberg allows ids from 0 to %d", name, id, math.MaxInt32)}
		}
	}
	for name, v := range map[string]any{"columns": columns, "partition fields": fields} {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if len(b) > maxHeader {
			return &ArgumentError{fmt.Errorf("the %d columns are too many: the description of the table's %s takes %d bytes, and Iceberg's manifests can contain %d: use fewer columns, shorter names, or several tables", columns.NumFields(), name, len(b), maxHeader)}
		}
	}
	return nil
}
