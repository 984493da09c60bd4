package definition

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// FileBytes is the default size of data files, in bytes.
const FileBytes = 128 << 20

func newProperties(sc *arrow.Schema) iceberg.Properties {
	version := "2"
	if schema.HasNanoseconds(sc) {
		version = "3"
	}
	return iceberg.Properties{
		"format-version":                     version,
		table.ManifestMergeEnabledKey:        "true",
		table.ParquetCompressionKey:          Compression("").codec(),
		"write.parquet.row-group-size-bytes": "33554432",
		// smaller than the default, because a reader of a few rows decodes a whole row group
		table.ParquetRowGroupLimitKey:             "131072",
		table.WriteTargetFileSizeBytesKey:         strconv.Itoa(FileBytes),
		table.MetadataDeleteAfterCommitEnabledKey: "false",
	}
}

// NewMetadata returns the metadata of a new table at the given location. s may be nil. fileBytes is the approximate
// size of data files in bytes; 0 means FileBytes.
func NewMetadata(sh *schema.Shape, location string, s *Settings, fileBytes int) (table.Metadata, error) {
	props := newProperties(sh.Stored)
	props[schema.Property(0)] = sh.PutProperty
	if fileBytes > 0 {
		props[table.WriteTargetFileSizeBytesKey] = strconv.Itoa(fileBytes)
		props["write.parquet.row-group-size-bytes"] = strconv.Itoa(fileBytes)
	}
	meta, err := table.NewMetadata(sh.Schema, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, location, props)
	if err != nil {
		return nil, err
	}
	return WithSettings(meta, s)
}

// Reshape returns meta with another schema. It removes a sort order that the new columns do not allow. The caller must
// then call WithSettings, which adds the order of the settings again.
func Reshape(meta table.Metadata, sh *schema.Shape) (table.Metadata, error) {
	if err := CheckSources(meta, sh.Schema); err != nil {
		return nil, err
	}
	columns := distinct(meta, sh)
	updates := []table.Update{table.NewAddSchemaUpdate(columns), table.NewSetCurrentSchemaUpdate(-1)}
	if order := meta.SortOrder(); order.CheckCompatibility(columns) != nil {
		updates = append(RemoveSortOrder(), updates...)
	}
	if schema.HasNanoseconds(sh.Stored) && meta.Version() < 3 {
		updates = append([]table.Update{table.NewUpgradeFormatVersionUpdate(3)}, updates...)
	}
	meta, err := table.UpdateTableMetadata(meta, updates, "")
	if err != nil {
		return nil, err
	}
	property := iceberg.Properties{schema.Property(meta.CurrentSchema().ID): sh.PutProperty}
	return table.UpdateTableMetadata(meta, []table.Update{table.NewSetPropertiesUpdate(property)}, "")
}

// putMark begins the suffix that distinct adds to a column's documentation.
const putMark = "[put schema "

// distinct returns the schema of sh. If the table already has an equal schema with other put types, distinct changes
// the documentation of the first column. Otherwise, iceberg-go would reuse the earlier schema's ID, and the versions
// with that schema would get the new put types.
func distinct(meta table.Metadata, sh *schema.Shape) *iceberg.Schema {
	fields := slices.Clone(sh.Schema.Fields())
	for i := range fields {
		doc, _, _ := strings.Cut(fields[i].Doc, putMark)
		fields[i].Doc = strings.TrimSpace(doc)
	}
	doc := fields[0].Doc
	columnsWith := func(doc string) *iceberg.Schema {
		fields[0].Doc = doc
		return iceberg.NewSchemaWithIdentifiers(0, sh.Schema.IdentifierFieldIDs, slices.Clone(fields)...)
	}
	properties, isUsed := meta.Properties(), map[string]bool{}
	for _, s := range meta.Schemas() {
		if s.NumFields() == 0 {
			continue
		}
		used := s.Field(0).Doc
		unmarked, _, _ := strings.Cut(used, putMark)
		if columns := columnsWith(used); strings.TrimSpace(unmarked) == doc && columns.Equals(s) {
			if properties[schema.Property(s.ID)] == sh.PutProperty {
				return columns
			}
			isUsed[used] = true
		}
	}
	marked := doc
	for n := 2; isUsed[marked]; n++ {
		marked = strings.TrimSpace(doc + " " + putMark + strconv.Itoa(n) + "]")
	}
	return columnsWith(marked)
}

// WithSettings returns meta with the settings s, after checking them against the columns; nil means the current
// settings.
func WithSettings(meta table.Metadata, s *Settings) (table.Metadata, error) {
	props := iceberg.Properties{}
	current, err := ParseSettings(meta.Properties()[SettingsProperty])
	if s != nil {
		props[table.ParquetCompressionKey] = s.Compression.codec()
	} else if err != nil {
		return nil, err
	} else {
		s = &current
	}
	d, err := withTypes(meta.CurrentSchema(), meta.Properties()[schema.Property(meta.CurrentSchema().ID)])
	if err != nil {
		return nil, err
	}
	text, err := s.property(d.Logical)
	if err != nil {
		return nil, err
	}
	updates, err := s.sortUpdates(meta, current)
	if err != nil {
		return nil, err
	}
	props[SettingsProperty] = text
	if s.Time != "" { // by default, Iceberg records bounds only for the first columns of a wide table
		props[table.MetricsModeColumnConfPrefix+"."+s.Time] = "full"
	}
	maps.DeleteFunc(props, func(k, v string) bool { return meta.Properties()[k] == v })
	var removed []string // properties for the metrics of dropped columns: other programs reject such properties
	for k := range meta.Properties() {
		if name, ok := strings.CutPrefix(k, table.MetricsModeColumnConfPrefix+"."); ok && !d.Logical.HasField(name) {
			removed = append(removed, k)
		}
	}
	return table.UpdateTableMetadata(meta, append(updates, icecat.PropertyUpdates(props, removed)...), "")
}

// SettingsOf returns a copy of a table's settings that the caller may change.
func SettingsOf(meta table.Metadata) (Settings, error) {
	d, err := FromMetadata(meta)
	if err != nil {
		return Settings{}, err
	}
	s := d.Settings
	s.Keys = slices.Clone(s.Keys)
	return s, nil
}

// SpecOf returns the ID of a partition spec that uses the column with the given ID, or false if no spec does.
func SpecOf(specs []iceberg.PartitionSpec, column int) (id int, ok bool) {
	for _, spec := range specs {
		for _, f := range spec.Fields() {
			if _, isVoid := f.Transform.(iceberg.VoidTransform); slices.Contains(f.SourceIDs, column) && !isVoid {
				return spec.ID(), true
			}
		}
	}
	return 0, false
}

// WithSources returns columns, which a restore brings back, plus the table's current columns that a partition spec
// uses. The restored files lack the added columns, so readers get nulls or default values.
func WithSources(meta table.Metadata, columns *iceberg.Schema) (*iceberg.Schema, error) {
	fields := slices.Clone(columns.Fields())
	for _, f := range meta.CurrentSchema().Fields() {
		_, isSource := SpecOf(meta.PartitionSpecs(), f.ID)
		_, exists := columns.FindFieldByID(f.ID)
		_, isNameTaken := columns.FindFieldByName(f.Name)
		if isSource && !exists && !isNameTaken {
			f.Required = f.Required && f.InitialDefault != nil
			fields = append(fields, f)
		}
	}
	columns = iceberg.NewSchemaWithIdentifiers(columns.ID, columns.IdentifierFieldIDs, fields...)
	return columns, CheckSources(meta, columns)
}

// CheckSources returns an error if columns lack a current column of the table that a partition spec uses. Other programs
// could then not load the table, even if the spec is no longer the current one.
func CheckSources(meta table.Metadata, columns *iceberg.Schema) error {
	fields, err := iceberg.IndexByID(meta.CurrentSchema())
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(fields)) {
		spec, ok := SpecOf(meta.PartitionSpecs(), id)
		if _, isKept := columns.FindFieldByID(id); ok && !isKept {
			name, _ := meta.CurrentSchema().FindColumnName(id)
			return schema.Errorf(name, "the partition spec %d of the table uses the column, so other programs need it, with this name and type: "+
				"to free it, replace the spec, rewrite the files, expire the versions whose manifests use the spec, and remove the spec (remove-partition-specs)", spec)
		}
	}
	return nil
}
