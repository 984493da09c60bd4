package commit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// renameColumns converts a batch with one of the table's older schemas: it renames columns to their current names and
// drops removed columns. It matches columns by name if a replacement of the table removed them. It returns other
// batches unchanged. It takes ownership of the batch.
func renameColumns(meta table.Metadata, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	isReplaced, err := definition.ReplacedColumns(meta)
	if err != nil {
		return batch, err
	}
	for _, oldSchema := range slices.Backward(meta.Schemas()) {
		stored, err := schema.StoredSchema(oldSchema)
		if err != nil {
			return batch, err
		}
		if !stored.Equal(batch.Schema()) {
			continue
		}
		var fields []arrow.Field
		var columns []arrow.Array
		add := func(i int, name string) {
			field := stored.Field(i)
			field.Name = name
			fields, columns = append(fields, field), append(columns, batch.Column(i))
		}
		for i, f := range oldSchema.Fields() {
			current, ok := meta.CurrentSchema().FindFieldByID(f.ID)
			if !ok && isReplaced(f.ID) {
				current, ok = meta.CurrentSchema().FindFieldByName(f.Name)
				_, isTaken := oldSchema.FindFieldByID(current.ID)
				ok = ok && !isTaken
			}
			if ok {
				add(i, current.Name)
			}
		}
		if len(fields) == 0 { // all columns were replaced, so match them by name
			for i, f := range oldSchema.Fields() {
				if _, ok := meta.CurrentSchema().FindFieldByName(f.Name); ok {
					add(i, f.Name)
				}
			}
		}
		if len(fields) == 0 {
			return batch, nil // the caller reports the mismatch
		}
		defer batch.Release()
		return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows()), nil
	}
	return batch, nil
}

// castTail casts rows from the tail of the table described by meta to the schema stored. It takes ownership of the
// rows.
func castTail(meta table.Metadata, rows []arrow.RecordBatch, stored *arrow.Schema) ([]arrow.RecordBatch, error) {
	for i, batch := range rows {
		if batch.Schema() == stored || batch.Schema().Equal(stored) {
			continue
		}
		defaults, err := schema.DefaultsOf(meta.CurrentSchema(), stored)
		if err != nil {
			take.Release(rows)
			return nil, err
		}
		batch, err = renameColumns(meta, batch)
		rows[i] = batch
		if err != nil {
			take.Release(rows)
			return nil, err
		}
		converted, err := schema.CastStored(batch, stored, defaults.Initial)
		if err != nil {
			take.Release(rows)
			return nil, fmt.Errorf("rows in the tail no longer fit the table, because another process changed its columns: evolve the columns until the rows fit: %w", err)
		}
		batch.Release()
		rows[i] = converted
	}
	return rows, nil
}

func concat(meta table.Metadata, rows []arrow.RecordBatch, stored *arrow.Schema) (arrow.RecordBatch, error) {
	cast, err := castTail(meta, take.Retain(rows), stored)
	if err != nil {
		return nil, err
	}
	defer take.Release(cast)
	return take.Concat(cast)
}

// withNames returns after, a table's metadata after a change. If the change altered columns but not the table's name
// mapping, withNames adds the new names to the mapping. Without them, programs that read files without field IDs would
// fail or find no values for an added or renamed column.
func withNames(before, after table.Metadata) (table.Metadata, error) {
	const root = -1 // the parent of top-level columns, as in iceberg-go
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
		} else if _, ok := names[parent]; ok { // iceberg-go adds a field together with its nested fields
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
