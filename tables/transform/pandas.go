package transform

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Keys in the schema metadata. pandas writes pandasKey. partd_go writes keys that begin with ownPrefix; extraKey
// holds its additions to pandas' metadata.
const (
	pandasKey = "pandas"
	extraKey  = ownPrefix + "pandas"
	ownPrefix = "partd_go."
)

// extensionMetadata returns the entries of m that describe a column's pandas type, or an Arrow extension
// type that this program does not know.
func extensionMetadata(m arrow.Metadata) arrow.Metadata {
	kept := m.ToMap()
	for key := range kept {
		if !strings.HasPrefix(key, ownPrefix) && !strings.HasPrefix(key, "ARROW:extension:") {
			delete(kept, key)
		}
	}
	return arrow.MetadataFrom(kept)
}

// findDictionaries returns the result columns whose source columns are dictionaries. For an ordered
// dictionary, it makes min and max compare by the order of the categories.
func (q *resampling) findDictionaries(source *arrow.Schema) (*arrow.Schema, error) {
	var out []arrow.Field
	for i, a := range q.aggregates {
		if a.function == "size" || !functions[a.function].keepsType() {
			continue
		}
		f, err := field(source, q.columns[a.column].Name)
		dictionary, ok := f.Type.(*arrow.DictionaryType)
		if err != nil || !ok {
			continue
		}
		out = append(out, arrow.Field{Name: a.field.Name, Type: dictionary, Nullable: true, Metadata: f.Metadata})
		sqlFunction := map[string]string{"min": "arg_min", "low": "arg_min", "max": "arg_max", "high": "arg_max"}[a.function]
		if !dictionary.Ordered || sqlFunction == "" {
			continue
		}
		values, err := schema.Dictionary(f)
		if err != nil {
			return nil, err
		}
		isInteger := arrow.IsInteger(dictionary.ValueType.ID())
		if text, ok := dictionary.ValueType.(arrow.BinaryDataType); values == nil || !isInteger && (!ok || !text.IsUtf8()) {
			return nil, &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("%s cannot compare categories of type %s: use first, last or count", a.function, dictionary.ValueType)}
		}
		var order []string
		for j := range values.Len() {
			if values.IsNull(j) {
				continue
			}
			literal := values.ValueStr(j)
			if !isInteger {
				literal = sqltext.Text(literal)
			}
			order = append(order, literal)
		}
		values.Release()
		// A concurrent put may add a category. The statement then fails, because the category's place in
		// the order is unknown.
		q.aggregates[i].byCategoryOrder = true
		q.aggregates[i].sql = fmt.Sprintf(`%[1]s(c%[2]d, CASE WHEN c%[2]d IS NOT NULL THEN coalesce(list_position([%[3]s], c%[2]d),
error(%[4]s || c%[2]d || ', which is not in the order of the categories: use first, last or count')) END)`,
			sqlFunction, a.column, strings.Join(order, ", "), sqltext.Text("column "+f.Name+": a later put added the value "))
	}
	return arrow.NewSchema(out, nil), nil
}

// timeMetadata returns the note of partd_go about the result's time column of type t. A note with a pandas dtype gets
// the unit of t.
func timeMetadata(source arrow.Field, t arrow.DataType) (m arrow.Metadata) {
	text, _ := source.Metadata.GetValue(extraKey)
	var note struct{ As string }
	if err := json.Unmarshal([]byte(text), &note); err != nil {
		return m
	}
	from, hasUnit := source.Type.(*arrow.TimestampType)
	switch to, _ := t.(*arrow.TimestampType); {
	case note.As == "dtype" && hasUnit:
		text = strings.Replace(text, "datetime64["+from.Unit.String()+",", "datetime64["+to.Unit.String()+",", 1)
	case note.As != "arrow":
		return m
	}
	return arrow.NewMetadata([]string{extraKey}, []string{text})
}

// pandasMetadata returns the source's pandas metadata, reduced to the time column and the result columns that have the
// same type as their source columns.
func (q *resampling) pandasMetadata(source *arrow.Schema) arrow.Metadata {
	targets := map[string][]string{} // names of result columns, by name of the source column
	targets[q.timeColumn] = []string{q.timeColumn}
	timeField, err := field(source, q.timeColumn)
	isTimeKept := err == nil && arrow.TypeEqual(timeField.Type, q.schema.Field(0).Type)
	renamed := false
	for _, a := range q.aggregates {
		if a.function != "size" && functions[a.function].keepsType() {
			name := q.columns[a.column].Name
			targets[name] = append(targets[name], a.field.Name)
		}
		renamed = renamed || a.function == "size" || a.field.Name != q.columns[a.column].Name
	}
	metadata, m, hasIndex := map[string]string{}, source.Metadata(), false
	update := func(key string, change func(map[string]any)) {
		text, _ := m.GetValue(key)
		var value map[string]any
		if json.Unmarshal([]byte(text), &value) != nil || value == nil { // Another program may have written invalid metadata.
			if key != pandasKey || !q.timeIndex {
				return
			}
			value = map[string]any{"columns": []any{}, "column_indexes": []any{}}
		}
		change(value)
		if b, err := json.Marshal(value); err == nil {
			metadata[key] = string(b)
		}
	}
	update(pandasKey, func(value map[string]any) {
		indexColumns, _ := value["index_columns"].([]any)
		if hasIndex = slices.Contains(indexColumns, any(q.timeColumn)); hasIndex {
			indexColumns = []any{q.timeColumn} // without the other levels of a MultiIndex, which are columns of the result
		} else {
			indexColumns = []any{}
		}
		value["index_columns"] = indexColumns
		if renamed { // The new names are strings, even if the old ones were not.
			value["column_indexes"] = []any{}
		}
		columns, hasColumns := value["columns"].([]any)
		kept := []any{}
		for _, c := range columns {
			c, _ := c.(map[string]any)
			name, _ := c["field_name"].(string)
			for _, to := range targets[name] {
				copied := map[string]any{} // not maps.Clone, which returns nil if another program wrote null
				maps.Copy(copied, c)
				if to != name {
					copied["name"], copied["field_name"] = to, to
				}
				if name == q.timeColumn && !isTimeKept {
					maps.Copy(copied, q.timeTypes())
				}
				kept = append(kept, copied)
			}
		}
		if q.timeIndex {
			value["index_columns"] = []any{q.timeColumn}
			if !slices.ContainsFunc(kept, func(c any) bool { return c.(map[string]any)["field_name"] == q.timeColumn }) {
				entry := q.timeTypes()
				entry["name"], entry["field_name"] = q.timeColumn, q.timeColumn
				kept = append(kept, entry)
			}
		}
		if hasColumns || q.timeIndex {
			value["columns"] = kept
		}
	})
	update(extraKey, func(value map[string]any) {
		delete(value, "freq") // freq describes the source's times, not the bins.
		if renamed {
			delete(value, "labels")
		}
		if !hasIndex || !isTimeKept {
			delete(value, "index")
		}
		if !hasIndex || renamed {
			delete(value, "series")
		}
		types, _ := value["dtypes"].(map[string]any)
		names, _ := value["arrow"].([]any)
		kept, arrows := map[string]any{}, []string{}
		for from, to := range targets {
			for _, name := range to {
				if t, ok := types[from]; ok && (isTimeKept || from != q.timeColumn) {
					kept[name] = t
				}
				if slices.Contains(names, any(from)) {
					arrows = append(arrows, name)
				}
			}
		}
		slices.Sort(arrows)
		value["dtypes"], value["arrow"] = kept, arrows
	})
	return arrow.MetadataFrom(metadata)
}

// timeTypes returns the types of the time column in pandas metadata.
func (q *resampling) timeTypes() map[string]any {
	metadata := map[string]any{"pandas_type": "datetime", "numpy_type": "datetime64[ns]", "metadata": nil}
	if t, ok := q.schema.Field(0).Type.(*arrow.TimestampType); !ok {
		metadata["pandas_type"], metadata["numpy_type"] = "date", "object"
	} else if t.TimeZone != "" {
		metadata["pandas_type"], metadata["metadata"] = "datetimetz", map[string]any{"timezone": t.TimeZone}
	}
	return metadata
}
