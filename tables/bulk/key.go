package bulk

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/tables/internal/faces/formats"
)

// appendKey appends the key of a row: for each column, a zero byte for null, or otherwise a one, the length of the
// value's text, and the text.
func appendKey(dst []byte, b arrow.RecordBatch, columns []int, row int, text []byte) (key, buffer []byte, err error) {
	for _, c := range columns {
		var isNull bool
		if text, isNull, err = formats.AppendText(text[:0], b.Column(c), row); err != nil {
			return dst, text, err
		}
		if isNull {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(append(dst, 1), uint64(len(text)))
		dst = append(dst, text...)
	}
	return dst, text, nil
}

// parseKey returns the texts of a key. A nil text means null.
func parseKey(key string) (texts []*string) {
	for key != "" {
		isNull := key[0] == 0
		key = key[1:]
		if isNull {
			texts = append(texts, nil)
			continue
		}
		n, size := binary.Uvarint([]byte(key[:min(len(key), binary.MaxVarintLen64)]))
		text := key[size : size+int(n)]
		texts = append(texts, &text)
		key = key[size+int(n):]
	}
	return texts
}

// nullName is the name of null, which the names of other keys never equal.
const nullName = "%null"

// plainName returns the text that names the file of a key: the value of a single column, or otherwise a line of CSV. In
// such a line, null is an empty field, and an empty text is "".
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
			line = output.AppendCSV(line, []byte(*text), ',')
		}
	}
	return string(line)
}

// hiveNull is the name of null in the directories of Hive.
const hiveNull = "__HIVE_DEFAULT_PARTITION__"

// hivePath returns the directories of a key in the layout of Hive, such as year=2026/month=5.
func hivePath(columns []string, texts []*string) (string, error) {
	const maxName = 255 // bytes, on common file systems
	parts := make([]string, len(columns))
	for i, text := range texts {
		value := hiveNull
		if text != nil {
			value = url.PathEscape(*text)
			if value == hiveNull {
				value = "%5F" + hiveNull[1:]
			}
		}
		parts[i] = url.PathEscape(columns[i]) + "=" + value
		if len(parts[i]) > maxName {
			return "", fmt.Errorf("column %q: a value of %d bytes is too long for the name of a directory: split without Hive's layout", columns[i], len(*text))
		}
	}
	return strings.Join(parts, "/"), nil
}
