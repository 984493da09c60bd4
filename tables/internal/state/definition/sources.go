package definition

import (
	"maps"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/schema"
)

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

// WithSources returns columns, which a restore brings back, and those of the table's current columns that a partition spec
// uses. The restored files lack the latter, so they are null or have their default value.
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
