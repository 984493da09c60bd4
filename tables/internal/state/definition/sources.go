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
