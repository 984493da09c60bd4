package definition

import (
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/schema"
)

// FileBytes is how large data files are made.
const FileBytes = 128 << 20

// properties of new tables.
func newProperties(sc *arrow.Schema) iceberg.Properties {
	version := "2"
	if schema.Nanoseconds(sc) {
		version = "3"
	}
	return iceberg.Properties{
		"format-version":                          version,
		table.ManifestMergeEnabledKey:             "true",
		table.ParquetCompressionKey:               "zstd",
		"write.parquet.row-group-size-bytes":      "33554432",
		table.ParquetRowGroupLimitKey:             "131072", // who wants a few rows decodes a whole group
		table.WriteTargetFileSizeBytesKey:         strconv.Itoa(FileBytes),
		table.MetadataDeleteAfterCommitEnabledKey: "false",
	}
}

// New returns the metadata of a new table at a location; its settings may be nil. Its
// data files are made of about so many bytes; 0 is FileBytes.
func New(sh *schema.Shape, location string, s *Settings, fileBytes int) (table.Metadata, error) {
	props := newProperties(sh.Stored)
	props[schema.Property(0)] = sh.Put
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

// Reshaped returns metadata with another schema. Older versions keep theirs.
func Reshaped(meta table.Metadata, sh *schema.Shape) (table.Metadata, error) {
	// The order by columns that go is set anew with the settings.
	ups := append(Unsorted(), table.NewAddSchemaUpdate(sh.Schema), table.NewSetCurrentSchemaUpdate(-1))
	if schema.Nanoseconds(sh.Stored) && meta.Version() < 3 {
		ups = append([]table.Update{table.NewUpgradeFormatVersionUpdate(3)}, ups...)
	}
	meta, err := table.UpdateTableMetadata(meta, ups, "")
	if err != nil {
		return nil, err
	}
	property := iceberg.Properties{schema.Property(meta.CurrentSchema().ID): sh.Put}
	return table.UpdateTableMetadata(meta, []table.Update{table.NewSetPropertiesUpdate(property)}, "")
}

// WithSettings returns metadata with settings; with those it has, which must fit
// its columns, if s is nil.
func WithSettings(meta table.Metadata, s *Settings) (table.Metadata, error) {
	if s == nil {
		has, err := ParseSettings(meta.Properties()[SettingsProperty])
		if err != nil {
			return nil, err
		}
		s = &has
	}
	columns := meta.CurrentSchema()
	put, _, err := Types(columns, meta.Properties()[schema.Property(columns.ID)])
	if err != nil {
		return nil, err
	}
	logical := schema.Plain(put)
	text, err := s.property(logical)
	if err != nil {
		return nil, err
	}
	ups, err := s.sortUpdates(meta)
	if err != nil {
		return nil, err
	}
	props := iceberg.Properties{SettingsProperty: text}
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
		if name, ok := strings.CutPrefix(k, table.MetricsModeColumnConfPrefix+"."); ok && !logical.HasField(name) {
			gone = append(gone, k)
		}
	}
	if len(gone) > 0 {
		ups = append(ups, table.NewRemovePropertiesUpdate(gone))
	}
	return table.UpdateTableMetadata(meta, ups, "")
}

// SettingsOf returns a copy of a table's settings, which the caller may change.
func SettingsOf(meta table.Metadata) (Settings, error) {
	d, err := Of(meta)
	if err != nil {
		return Settings{}, err
	}
	s := d.Settings
	s.Keys = slices.Clone(s.Keys)
	return s, nil
}
