package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// reservedColumns are the columns that Iceberg itself adds to tables.
var reservedColumns = []string{iceberg.RowIDColumnName, iceberg.LastUpdatedSequenceNumberColumnName}

// CheckNames returns an error if Iceberg's metadata cannot store the name of a column or nested field. The error is an
// [Error] that wraps [RefusedColumns].
func CheckNames(schema *arrow.Schema) error {
	paths, columns := map[string]bool{}, map[string]bool{}
	for _, f := range schema.Fields() {
		reason := checkName("name", f.Name)
		switch {
		case reason == "" && columns[f.Name]:
			reason = "two columns have this name: rename one"
		case slices.Contains(reservedColumns, f.Name):
			reason = "Iceberg reserves this column name: rename the column"
		}
		columns[f.Name] = true
		if reason == "" {
			reason = checkPath(f.Name, f.Type, paths)
		}
		if reason != "" {
			return RefusedColumns{{f.Name, f.Type, reason}}.error()
		}
	}
	return nil
}

// checkName returns why a name is invalid, or "" if it is valid.
func checkName(subject, name string) string {
	switch {
	case name == "":
		return fmt.Sprintf("its %s is empty", subject)
	case !utf8.ValidString(name):
		return fmt.Sprintf("its %s is not valid UTF-8", subject)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Sprintf("its %s contains a zero byte", subject)
	}
	return ""
}

// checkPath returns why Iceberg cannot distinguish two fields of a type, or "" if it can. Iceberg identifies a field by
// the names on its path, joined by dots.
func checkPath(path string, t arrow.DataType, paths map[string]bool) (reason string) {
	if paths[path] {
		return fmt.Sprintf("Iceberg would call two fields %q: rename one", path)
	}
	paths[path] = true
	if extension, ok := t.(arrow.ExtensionType); ok {
		t = extension.StorageType()
	}
	t = DecodedType(t)
	partNames := map[arrowtype.Kind][]string{arrowtype.List: {"element"}, arrowtype.Map: {"key", "value"}}[arrowtype.KindOf(t)]
	names := map[string]bool{}
	for i, f := range arrowtype.Fields(t) {
		if partNames != nil {
			f.Name = partNames[i]
		}
		reason = checkName("field's name "+strconv.Quote(f.Name), f.Name)
		if reason == "" && names[f.Name] {
			reason = fmt.Sprintf("the column has two fields named %q", f.Name)
		}
		names[f.Name] = true
		if reason == "" {
			reason = checkPath(path+"."+f.Name, f.Type, paths)
		}
		if reason != "" {
			return reason
		}
	}
	return ""
}
