package icecat

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/zeebo/xxh3"
)

const (
	// Iceberg properties whose names begin with MetaPrefix or JSONPrefix contain the metadata that users set on a
	// table: strings, or other values as JSON.
	MetaPrefix = "partd.meta."
	JSONPrefix = "partd.json."
	// UpdatedKey is the metadata key for the time of the last change.
	UpdatedKey = "_updated"
)

// Info is a change's information for listings, besides Iceberg's metadata.
type Info struct {
	Updated  time.Time
	Metadata map[string]any // set by users; as returned by ParseMetadata
	CopyOf   string         // for an unchanged copy, the original's metadata location; see Catalog.CopyOf
}

// ParseMetadata decodes a JSON object. Numbers keep their notation.
func ParseMetadata(b []byte) (m map[string]any, err error) {
	err = decodeJSON(b, &m)
	return m, err
}

func decodeJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the text contains more than one JSON value")
	}
	return nil
}

// Canonical returns a string that is equal for equal values from ParseMetadata.
func Canonical(v any) string {
	b, err := json.Marshal(normalizeNumbers(v))
	if err != nil {
		return "" // impossible for values from ParseMetadata
	}
	return string(b)
}

// normalizeNumbers gives equal numbers in a value the same notation: 1.0 and 10e-1 both become 1e0.
func normalizeNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return normalizeNumber(v)
	case []any:
		result := make([]any, len(v))
		for i, e := range v {
			result[i] = normalizeNumbers(e)
		}
		return result
	case map[string]any:
		result := make(map[string]any, len(v))
		for k, e := range v {
			result[k] = normalizeNumbers(e)
		}
		return result
	}
	return v
}

// normalizeNumber returns a number as an exponent and an integer without leading or trailing zeros.
func normalizeNumber(n json.Number) json.Number {
	text, exponent, hasExponent := strings.Cut(strings.ToLower(n.String()), "e")
	e, err := strconv.ParseInt(exponent, 10, 32)
	text, negative := strings.CutPrefix(text, "-")
	integer, fraction, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(integer+fraction, "0")
	significant := strings.TrimRight(digits, "0")
	switch {
	case significant == "":
		return "0"
	case hasExponent && err != nil: // the exponent is too large, so the number equals only itself
		return n
	case negative:
		text = "-" + significant
	default:
		text = significant
	}
	return json.Number(text + "e" + strconv.FormatInt(e+int64(len(digits)-len(significant)-len(fraction)), 10))
}

// Properties converts metadata to properties: strings get keys with MetaPrefix; other values become JSON, with
// JSONPrefix.
func Properties(m map[string]any) map[string]string {
	props := map[string]string{}
	for k, v := range m {
		if text, ok := v.(string); ok {
			props[MetaPrefix+k] = text
		} else if b, err := json.Marshal(v); err == nil { // never fails for values from ParseMetadata
			props[JSONPrefix+k] = string(b)
		}
	}
	return props
}

// IsMetadata reports whether a property mirrors metadata.
func IsMetadata(property string) bool {
	return strings.HasPrefix(property, MetaPrefix) || strings.HasPrefix(property, JSONPrefix)
}

// FromProperties returns the metadata that properties mirror, or nil if they mirror none.
func FromProperties(props map[string]string) (m map[string]any) {
	for k, text := range props {
		var v any = text
		key, ok := strings.CutPrefix(k, MetaPrefix)
		if !ok {
			key, ok = strings.CutPrefix(k, JSONPrefix)
			if !ok || decodeJSON([]byte(text), &v) != nil {
				continue
			}
		}
		if key != UpdatedKey {
			if m == nil {
				m = map[string]any{}
			}
			m[key] = v
		}
	}
	return m
}

// UpdatedText formats the time of the last change for metadata.
func UpdatedText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Mirror returns meta with i's metadata and time of change as properties; see MetaPrefix.
func (i *Info) Mirror(meta table.Metadata) (table.Metadata, error) {
	props := iceberg.Properties(Properties(i.Metadata))
	delete(props, JSONPrefix+UpdatedKey)
	props[MetaPrefix+UpdatedKey] = UpdatedText(i.Updated)
	var removed []string
	for k, v := range meta.Properties() {
		if !IsMetadata(k) {
			continue
		}
		if mirrored, ok := props[k]; !ok {
			removed = append(removed, k)
		} else if mirrored == v {
			delete(props, k)
		}
	}
	if len(props)+len(removed) == 0 {
		return meta, nil
	}
	return table.UpdateTableMetadata(meta, PropertyUpdates(props, removed), "")
}

// ParseProperty parses the JSON in the named property of a table or a namespace. "" is the zero value.
func ParseProperty[T any](name, text string) (value T, err error) {
	if text == "" {
		return value, nil
	}
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return value, fmt.Errorf("property %s: %w", name, err)
	}
	return value, nil
}

// PropertyUpdates returns the updates of a table's metadata that set and remove properties.
func PropertyUpdates(set iceberg.Properties, removed []string) (updates []table.Update) {
	if len(set) > 0 {
		updates = append(updates, table.NewSetPropertiesUpdate(set))
	}
	if len(removed) > 0 {
		updates = append(updates, table.NewRemovePropertiesUpdate(removed))
	}
	return updates
}

func hashOf(v any) int64 { return int64(xxh3.HashString(Canonical(v))) }

// index updates partd_meta, the index of tables by metadata, after a table's metadata changed from old to updated.
func (t *transaction) index(n TableName, old, updated map[string]any) {
	for k, v := range old {
		t.exec(`DELETE FROM partd_meta WHERE namespace=? AND key=? AND hash=? AND name=?`, n.Namespace, k, hashOf(v), n.Name)
	}
	for k, v := range updated {
		t.exec(`INSERT INTO partd_meta VALUES (?,?,?,?) ON CONFLICT DO NOTHING`, n.Namespace, k, hashOf(v), n.Name)
	}
}

// reindex updates the index of tables by metadata before a table's metadata becomes meta (in JSON).
func (t *transaction) reindex(n TableName, meta string) {
	stored := cmp.Or(strings.Join(t.queryStrings(`SELECT metadata FROM partd_tables WHERE namespace=? AND name=?`, n.Namespace, n.Name), ""), "null")
	unlistedRows := t.exec(`DELETE FROM partd_unlisted WHERE namespace=? AND name=?`, n.Namespace, n.Name)
	if t.err != nil || unlistedRows == 0 && stored == meta {
		return
	}
	old, err := ParseMetadata([]byte(stored))
	updated, err2 := ParseMetadata([]byte(meta))
	t.err = cmp.Or(err, err2)
	if t.err == nil {
		t.index(n, old, updated)
	}
}

// TableName is a table's full name.
type TableName struct{ Namespace, Name string }

const (
	// CostPerByte is the memory that decoding and encoding metadata needs per byte of JSON.
	CostPerByte = 6

	costPerValue = 64        // additional bytes per value, because a short value can become a large struct
	maxValues    = 1 << 20   // maximum number of values in a JSON text
	maxPasses    = 192 << 20 // maximum number of bytes that the decoder reads, summed over all nesting levels
)

// DecodedCost returns the memory, in bytes, for decoding a client's JSON. It rejects JSON that has too many values or
// levels: the decoder cannot be interrupted and reads a nested schema once for each level around it. The error has no
// subject; the caller must add one, such as "the body".
func DecodedCost(b []byte) (int64, error) {
	level, inString := int64(1), false
	var passes, values int64
	for i := 0; i < len(b); i++ {
		passes += level
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			values++
		case c == ',':
			values++
		case c == '}' || c == ']':
			level--
		}
	}
	if values > maxValues {
		return 0, fmt.Errorf("has more than %d values", maxValues)
	}
	if passes > maxPasses {
		return 0, fmt.Errorf("is nested too deeply for its %d bytes", len(b))
	}
	return max(CostPerByte*int64(len(b)), passes) + costPerValue*values, nil
}
