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
// contains its additions to pandas' metadata.
const (
	pandasKey = "pandas"
	extraKey  = ownPrefix + "pandas"
	ownPrefix = "partd_go."
)

// extensionMetadata returns the entries in m that describe a column's pandas type, or an Arrow extension type that this
// program does not know.
func extensionMetadata(m arrow.Metadata) arrow.Metadata {
	kept := m.ToMap()
	for key := range kept {
		if !strings.HasPrefix(key, ownPrefix) && !strings.HasPrefix(key, "ARROW:extension:") {
			delete(kept, key)
		}
	}
	return arrow.MetadataFrom(kept)
}

// findDictionaries returns the result columns whose source columns are dictionaries. For an ordered dictionary, it
// makes min and max compare values by the order of the categories.
func (q *resampling) findDictionaries(source *arrow.Schema) (*arrow.Schema, error) {
	var out []arrow.Field
	for _, by := range q.by {
		if f, err := field(source, by.Name); err == nil && f.Type.ID() == arrow.DICTIONARY {
			out = append(out, f)
		}
	}
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
		// If a concurrent put adds a category, the statement fails, because the category's place in the order is unknown.
		q.aggregates[i].byCategoryOrder = true
		q.aggregates[i].sql = fmt.Sprintf(`%[1]s(c%[2]d, CASE WHEN c%[2]d IS NOT NULL THEN coalesce(list_position([%[3]s], c%[2]d),
error(%[4]s || c%[2]d || ', which is not in the order of the categories: use first, last or count')) END)`,
			sqlFunction, a.column, strings.Join(order, ", "), sqltext.Text("column "+f.Name+": a later put added the value "))
	}
	return arrow.NewSchema(out, nil), nil
}

// timeMetadata returns partd_go's note about the result's time column of type t. If the note has a pandas dtype, the
// dtype gets the unit of t.
func timeMetadata(source arrow.Field, t arrow.DataType) (m arrow.Metadata) {
	text, _ := source.Metadata.GetValue(extraKey)
	var note struct{ As string }
	if err := json.Unmarshal([]byte(text), &note); err != nil {
		return m
	}
	from, hasUnit := source.Type.(*arrow.TimestampType)
	to, _ := t.(*arrow.TimestampType)
	switch {
	case note.As == "dtype" && hasUnit:
		text = strings.Replace(text, "datetime64["+from.Unit.String()+",", "datetime64["+to.Unit.String()+",", 1)
	case note.As != "arrow":
		return m
	}
	return arrow.NewMetadata([]string{extraKey}, []string{text})
}

// pandasNotes adapts the source's pandas metadata to the result.
type pandasNotes struct {
	q          *resampling
	targets    map[string][]string // names of result columns, by name of the source column
	isTimeKept bool                // whether the time column keeps its type
	isRenamed  bool                // whether the result has columns with other names than the source
	hasIndex   bool                // whether the time column is an index of the source; set by updatePandas
}

// pandasMetadata returns the source's pandas metadata, reduced to the time column and the result columns that have the
// same type as their source columns.
func (q *resampling) pandasMetadata(source *arrow.Schema) arrow.Metadata {
	n := &pandasNotes{q: q, targets: map[string][]string{q.timeColumn: {q.timeColumn}}}
	for _, by := range q.by {
		n.targets[by.Name] = []string{by.Name}
	}
	timeField, err := field(source, q.timeColumn)
	n.isTimeKept = err == nil && arrow.TypeEqual(timeField.Type, q.schema.Field(0).Type)
	for _, a := range q.aggregates {
		if a.function == "size" {
			n.isRenamed = true
			continue
		}
		name := q.columns[a.column].Name
		if functions[a.function].keepsType() {
			n.targets[name] = append(n.targets[name], a.field.Name)
		}
		n.isRenamed = n.isRenamed || a.field.Name != name
	}
	metadata := map[string]string{}
	update := func(key string, value map[string]any, change func(map[string]any)) {
		if value == nil {
			return
		}
		change(value)
		if b, err := json.Marshal(value); err == nil {
			metadata[key] = string(b)
		}
	}
	pandas := notesIn(source, pandasKey)
	if pandas == nil && q.timeIndex {
		pandas = map[string]any{"columns": []any{}, "column_indexes": []any{}}
	}
	update(pandasKey, pandas, n.updatePandas)
	update(extraKey, notesIn(source, extraKey), n.updateExtra)
	return arrow.MetadataFrom(metadata)
}

// notesIn returns the JSON object under a key in the metadata of s, or nil if the key is missing or its value invalid.
func notesIn(s *arrow.Schema, key string) (value map[string]any) {
	m := s.Metadata()
	text, _ := m.GetValue(key)
	if json.Unmarshal([]byte(text), &value) != nil {
		return nil
	}
	return value
}

// updatePandas changes the metadata that pandas writes.
func (n *pandasNotes) updatePandas(value map[string]any) {
	timeColumn := n.q.timeColumn
	indexColumns, _ := value["index_columns"].([]any)
	n.hasIndex = slices.Contains(indexColumns, any(timeColumn))
	// Omit the other levels of a MultiIndex, which are columns of the result.
	indexColumns = []any{}
	if n.hasIndex || n.q.timeIndex {
		indexColumns = []any{timeColumn}
	}
	value["index_columns"] = indexColumns
	if n.isRenamed { // The new names are strings, even if the old ones were not.
		value["column_indexes"] = []any{}
	}
	columns, hasColumns := value["columns"].([]any)
	kept := n.keptColumns(columns)
	isTime := func(c any) bool { return c.(map[string]any)["field_name"] == timeColumn }
	if n.q.timeIndex && !slices.ContainsFunc(kept, isTime) {
		entry := n.q.timeTypes()
		entry["name"], entry["field_name"] = timeColumn, timeColumn
		kept = append(kept, entry)
	}
	if hasColumns || n.q.timeIndex {
		value["columns"] = kept
	}
}

// keptColumns returns the entries for the columns that keep their type, with their new names.
func (n *pandasNotes) keptColumns(columns []any) []any {
	kept := []any{}
	for _, c := range columns {
		c, _ := c.(map[string]any)
		name, _ := c["field_name"].(string)
		for _, to := range n.targets[name] {
			copied := map[string]any{} // not maps.Clone, which returns nil if another program wrote null
			maps.Copy(copied, c)
			if to != name {
				copied["name"], copied["field_name"] = to, to
			}
			if name == n.q.timeColumn && !n.isTimeKept {
				maps.Copy(copied, n.q.timeTypes())
			}
			kept = append(kept, copied)
		}
	}
	return kept
}

// updateExtra changes the metadata that partd_go writes.
func (n *pandasNotes) updateExtra(value map[string]any) {
	delete(value, "freq") // freq describes the source's times, not the bins.
	if n.isRenamed {
		delete(value, "labels")
	}
	if !n.hasIndex || !n.isTimeKept {
		delete(value, "index")
	}
	if !n.hasIndex || n.isRenamed {
		delete(value, "series")
	}
	types, _ := value["dtypes"].(map[string]any)
	names, _ := value["arrow"].([]any)
	kept, arrows := map[string]any{}, []string{}
	for from, targets := range n.targets {
		for _, name := range targets {
			if t, ok := types[from]; ok && (n.isTimeKept || from != n.q.timeColumn) {
				kept[name] = t
			}
			if slices.Contains(names, any(from)) {
				arrows = append(arrows, name)
			}
		}
	}
	slices.Sort(arrows)
	value["dtypes"], value["arrow"] = kept, arrows
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
