package transform

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// What a client noted beside the columns: pandas itself, and what partd_go adds to it
// where that says too little.
const (
	pandasKey = "pandas"
	moreKey   = ownPrefix + "pandas"
	ownPrefix = "partd_go."
)

// extensionOf is what names a column's extension type where this process does not
// know it, and what partd_go notes of its type of pandas.
func extensionOf(m arrow.Metadata) arrow.Metadata {
	kept := m.ToMap()
	for key := range kept {
		if !strings.HasPrefix(key, ownPrefix) && !strings.HasPrefix(key, "ARROW:extension:") {
			delete(kept, key)
		}
	}
	return arrow.MetadataFrom(kept)
}

// dictionaries are the columns of the result that the source has as dictionaries. The
// least and the greatest value of one whose order means something are by that order.
func (q *resampling) dictionaries(source *arrow.Schema) (*arrow.Schema, error) {
	var out []arrow.Field
	for i, a := range q.all {
		if a.function == "size" || !functions[a.function].keeps() {
			continue
		}
		f, err := field(source, q.columns[a.column].Name)
		of, ok := f.Type.(*arrow.DictionaryType)
		if err != nil || !ok {
			continue
		}
		out = append(out, arrow.Field{Name: a.field.Name, Type: of, Nullable: true, Metadata: f.Metadata})
		by := map[string]string{"min": "arg_min", "low": "arg_min", "max": "arg_max", "high": "arg_max"}[a.function]
		if !of.Ordered || by == "" {
			continue
		}
		values, err := schema.Dictionary(f)
		if err != nil {
			return nil, err
		}
		number := arrow.IsInteger(of.ValueType.ID())
		if text, ok := of.ValueType.(arrow.BinaryDataType); values == nil || !number && (!ok || !text.IsUtf8()) {
			return nil, &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("its categories have an order that %s does not know: take first, last or count", a.function)}
		}
		var order []string
		for j := range values.Len() {
			if values.IsNull(j) {
				continue
			}
			literal := values.ValueStr(j)
			if !number {
				literal = sqlquote.Text(literal)
			}
			order = append(order, literal)
		}
		values.Release()
		// Rows that came later may have others, of whose place nothing is known.
		q.all[i].byPlace = true
		q.all[i].sql = fmt.Sprintf(`%[1]s(c%[2]d, CASE WHEN c%[2]d IS NOT NULL THEN coalesce(list_position([%[3]s], c%[2]d),
error(%[4]s || c%[2]d || ' of a later put is not in: take first, last or count')) END)`,
			by, a.column, strings.Join(order, ", "), sqlquote.Text("column "+f.Name+": the categories have an order that the value "))
	}
	return arrow.NewSchema(out, nil), nil
}

// noted is what the source's schema has of pandas, for those columns of the result
// that have the type of the source's.
func (q *resampling) noted(source *arrow.Schema) arrow.Metadata {
	carried := map[string][]string{} // names in the result by those in the source
	if at, err := field(source, q.time); err == nil && arrow.TypeEqual(at.Type, q.schema.Field(0).Type) {
		carried[q.time] = []string{q.time}
	}
	renamed := false
	for _, a := range q.all {
		if a.function != "size" && functions[a.function].keeps() {
			name := q.columns[a.column].Name
			carried[name] = append(carried[name], a.field.Name)
		}
		renamed = renamed || a.function == "size" || a.field.Name != q.columns[a.column].Name
	}
	all, m, index := map[string]string{}, source.Metadata(), false
	notes := func(key string, change func(map[string]any)) {
		text, _ := m.GetValue(key)
		var of map[string]any
		if json.Unmarshal([]byte(text), &of) != nil || of == nil { // others may write what they want there
			if key != pandasKey || !q.index {
				return
			}
			of = map[string]any{"columns": []any{}, "column_indexes": []any{}}
		}
		change(of)
		if b, err := json.Marshal(of); err == nil {
			all[key] = string(b)
		}
	}
	notes(pandasKey, func(of map[string]any) {
		was, _ := of["index_columns"].([]any)
		if index = carried[q.time] != nil && len(was) == 1 && was[0] == q.time; !index {
			of["index_columns"] = []any{}
		}
		if renamed { // the names are texts, whatever they were
			of["column_indexes"] = []any{}
		}
		columns, made := of["columns"].([]any)
		kept := []any{}
		for _, c := range columns {
			c, _ := c.(map[string]any)
			name, _ := c["field_name"].(string)
			for _, to := range carried[name] {
				one := map[string]any{}
				maps.Copy(one, c)
				if to != name {
					one["name"], one["field_name"] = to, to
				}
				kept = append(kept, one)
			}
		}
		if q.index {
			of["index_columns"] = []any{q.time}
			if !slices.ContainsFunc(kept, func(c any) bool { return c.(map[string]any)["field_name"] == q.time }) {
				kept = append(kept, q.indexNote())
			}
		}
		if made || q.index {
			of["columns"] = kept
		}
	})
	notes(moreKey, func(of map[string]any) {
		delete(of, "freq") // of the source's rows
		if renamed {
			delete(of, "labels")
		}
		if !index {
			delete(of, "index")
		}
		if !index || renamed {
			delete(of, "series")
		}
		types, _ := of["dtypes"].(map[string]any)
		names, _ := of["arrow"].([]any)
		kept, arrows := map[string]any{}, []string{}
		for from, to := range carried {
			for _, name := range to {
				if t, ok := types[from]; ok {
					kept[name] = t
				}
				if slices.Contains(names, any(from)) {
					arrows = append(arrows, name)
				}
			}
		}
		slices.Sort(arrows)
		of["dtypes"], of["arrow"] = kept, arrows
	})
	return arrow.MetadataFrom(all)
}

// indexNote is pandas' own note of the time as an index.
func (q *resampling) indexNote() map[string]any {
	note := map[string]any{"name": q.time, "field_name": q.time, "pandas_type": "datetime", "numpy_type": "datetime64[ns]", "metadata": nil}
	if t, ok := q.schema.Field(0).Type.(*arrow.TimestampType); !ok {
		note["pandas_type"], note["numpy_type"] = "date", "object"
	} else if t.TimeZone != "" {
		note["pandas_type"], note["metadata"] = "datetimetz", map[string]any{"timezone": t.TimeZone}
	}
	return note
}
