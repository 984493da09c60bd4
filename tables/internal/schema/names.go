package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
)

// lineage are the columns that Iceberg itself gives to tables.
var lineage = []string{iceberg.RowIDColumnName, iceberg.LastUpdatedSequenceNumberColumnName}

// CheckNames refuses columns by the names that they, or the fields within them, have:
// with others Iceberg's metadata cannot be written, or cannot be read again. Its error is
// an [Error] that wraps a [Refused].
func CheckNames(schema *arrow.Schema) error {
	paths, columns := map[string]bool{}, map[string]bool{}
	for _, f := range schema.Fields() {
		why := checkName("name", f.Name)
		switch {
		case why == "" && columns[f.Name]:
			why = "there are two columns of this name"
		case slices.Contains(lineage, f.Name):
			why = "Iceberg has a column of this name itself: rename it"
		}
		columns[f.Name] = true
		if why == "" {
			why = checkPath(f.Name, f.Type, paths)
		}
		if why != "" {
			return Refused{{f.Name, f.Type, why}}.error()
		}
	}
	return nil
}

// checkName says why a name is none.
func checkName(what, name string) string {
	switch {
	case name == "":
		return fmt.Sprintf("its %s is empty", what)
	case !utf8.ValidString(name):
		return fmt.Sprintf("its %s is not valid UTF-8", what)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Sprintf("its %s holds a zero byte", what)
	}
	return ""
}

// checkPath says why what a type has of fields cannot be known by paths, which Iceberg
// knows fields by: with dots between the names, it is one field's alone.
func checkPath(path string, t arrow.DataType, paths map[string]bool) (why string) {
	if paths[path] {
		return fmt.Sprintf("Iceberg calls two fields %q: rename one", path)
	}
	paths[path] = true
	if extension, ok := t.(arrow.ExtensionType); ok {
		t = extension.StorageType()
	}
	switch t := logical(t).(type) { // without encodings
	case *arrow.MapType:
		if why = checkPath(path+".key", t.KeyType(), paths); why == "" {
			why = checkPath(path+".value", t.ItemType(), paths)
		}
	case *arrow.StructType:
		seen := map[string]bool{}
		for _, f := range t.Fields() {
			if why = checkName("field's name "+strconv.Quote(f.Name), f.Name); why != "" {
				return why
			}
			if seen[f.Name] {
				return fmt.Sprintf("its field %q is there twice", f.Name)
			}
			seen[f.Name] = true
			if why = checkPath(path+"."+f.Name, f.Type, paths); why != "" {
				return why
			}
		}
	case arrow.ListLikeType:
		return checkPath(path+".element", t.Elem(), paths)
	}
	return why
}

// Names returns the names of a schema's columns.
func Names(s *arrow.Schema) []string {
	all := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		all[i] = f.Name
	}
	return all
}

// Select returns the part of a schema with the columns named, in its order.
func Select(s *arrow.Schema, names []string) *arrow.Schema {
	var fields []arrow.Field
	for _, f := range s.Fields() {
		if slices.Contains(names, f.Name) {
			fields = append(fields, f)
		}
	}
	return arrow.NewSchema(fields, nil)
}

// Place returns where a column is, or an [Error] that says which there are.
func Place(s *arrow.Schema, name string) (int, error) {
	at := s.FieldIndices(name)
	if len(at) == 0 {
		return -1, Errorf(name, "the table has no such column, only %q", Names(s))
	}
	return at[0], nil
}
