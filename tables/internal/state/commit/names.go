package commit

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
)

// withNames returns after, a table's metadata after a change. If the change alters the columns but not the table's name
// mapping, withNames adds the new names to the mapping. Without them, programs that read files without field IDs would find
// no values for an added or renamed column, or fail.
func withNames(before, after table.Metadata) (table.Metadata, error) {
	const root = -1 // the parent of columns, as in the library
	mapping, columns := after.NameMapping(), after.CurrentSchema()
	if mapping == nil || before.CurrentSchema().Equals(columns) || mapping.String() != before.NameMapping().String() {
		return after, nil
	}
	fields, err1 := iceberg.IndexByID(columns)
	parents, err2 := iceberg.IndexParents(columns)
	if err := cmp.Or(err1, err2); err != nil {
		return nil, err
	}
	names := map[int][]string{root: nil}
	datafile.AddMappedNames(mapping, names)
	mapped, added := map[int]iceberg.NestedField{}, map[int][]iceberg.NestedField{}
	for _, id := range slices.Sorted(maps.Keys(fields)) {
		parent, isNested := parents[id]
		if !isNested {
			parent = root
		}
		if _, ok := names[id]; ok {
			mapped[id] = fields[id]
		} else if _, ok := names[parent]; ok { // the library adds a field with the fields nested in it
			added[parent] = append(added[parent], fields[id])
		}
	}
	mapping, err := iceberg.UpdateNameMapping(mapping, mapped, added)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(mapping)
	if err != nil {
		return nil, err
	}
	return table.UpdateTableMetadata(after, []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{table.DefaultNameMappingKey: string(text)})}, "")
}
