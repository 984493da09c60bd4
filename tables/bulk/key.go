package bulk

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// numberRows returns the result of number for the key of each row. Two keys are equal if the texts of their values are
// equal.
func numberRows(b arrow.RecordBatch, columns []int, number func(key []byte) int) ([]int, error) {
	return parted.NumberRows(b, columns, textKey, func(key []byte, _ int) int { return number(key) })
}

func textKey(a arrow.Array) func(key []byte, row int) ([]byte, error) {
	return sorted.TextKeyAppender(a, formats.TextAppender(a))
}

// keyTexts returns the texts of the key of a row. A nil text means null.
func keyTexts(b arrow.RecordBatch, columns []int, row int) ([]*string, error) {
	texts := make([]*string, len(columns))
	for i, c := range columns {
		text, isNull, err := formats.TextAppender(b.Column(c))(nil, row)
		if err != nil {
			return nil, err
		}
		if !isNull {
			texts[i] = new(string(text))
		}
	}
	return texts, nil
}

// nullName is the file name of the key null. No other key has this name.
const nullName = "%null"

// plainName returns the text that names the file of a key: the value of a single column, which must not be null, or a
// CSV line of several columns. In the line, null is an empty field, and an empty text is "".
func plainName(texts []*string) string {
	if len(texts) == 1 {
		return *texts[0]
	}
	var line []byte
	for i, text := range texts {
		if i > 0 {
			line = append(line, ',')
		}
		if text != nil && *text == "" {
			line = append(line, `""`...)
		} else if text != nil {
			line = textfmt.AppendInner(line, []byte(*text), ',')
		}
	}
	return string(line)
}

// hiveNull stands for null in directory names of Hive's layout.
const hiveNull = "__HIVE_DEFAULT_PARTITION__"

// checkHive returns an error if some reader of Hive's layout would not find a key column by its name. DuckDB and polars
// do not decode escaped names, pyarrow skips names that begin with "_" or ".", and DuckDB ignores case.
func checkHive(columns *arrow.Schema, by []int) error {
	for _, c := range by {
		name := columns.Field(c).Name
		if name == "" || strings.ContainsAny(name, `%=/\?:`) || strings.ContainsFunc(name, unicode.IsControl) || strings.ContainsRune("_.", rune(name[0])) {
			return fmt.Errorf("column %q: some programs cannot read this name in Hive's layout: rename the column, or split without this layout", name)
		}
		for i, other := range columns.Fields() {
			if i != c && strings.EqualFold(other.Name, name) {
				return fmt.Errorf("columns %q and %q: DuckDB reads only one of them in Hive's layout: rename one, or split without this layout", name, other.Name)
			}
		}
	}
	return nil
}

// hiveLetters lists sets of letters to escape in directory names. If another key has a directory with the same name,
// because the file system ignores case, the next set is tried.
var hiveLetters = []string{"", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"}

// hiveValue returns the form of a text in directory names of Hive's layout, with the given letters escaped. It also
// escapes equal signs, because DuckDB and polars cannot read names with two of them, colons, because Windows does not
// allow them, and part of NULL, because DuckDB would read it as null.
func hiveValue(text, letters string) (string, error) {
	if text == hiveNull {
		return "", fmt.Errorf("pyarrow and polars read the value %q as null in Hive's layout: split without this layout", text)
	}
	if strings.EqualFold(text, "NULL") {
		letters += text[:1]
	}
	escape := func(match string) string {
		if len(match) == 1 && strings.Contains(letters, match) {
			return fmt.Sprintf("%%%X", match)
		}
		return match
	}
	return hiveParts.ReplaceAllStringFunc(strings.NewReplacer("=", "%3D", ":", "%3A").Replace(url.PathEscape(text)), escape), nil
}

var hiveParts = regexp.MustCompile("%..|[A-Za-z]") // escapes, which remain unchanged, and letters

// hivePath returns the directory of a key in Hive's layout, such as year=2026/month=5.
func hivePath(columns []string, texts []*string, letters string) (_ string, err error) {
	const maxName = 255 // bytes, on common file systems
	parts := make([]string, len(columns))
	for i, text := range texts {
		value := hiveNull
		if text != nil {
			value, err = hiveValue(*text, letters)
			if err != nil {
				return "", fmt.Errorf("column %q: %w", columns[i], err)
			}
		}
		parts[i] = columns[i] + "=" + value
		if len(parts[i]) > maxName {
			return "", fmt.Errorf("column %q: a value of %d bytes is too long for a directory name: split without Hive's layout", columns[i], len(*text))
		}
	}
	return strings.Join(parts, "/"), nil
}
