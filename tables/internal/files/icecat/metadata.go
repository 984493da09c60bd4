package icecat

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/zeebo/xxh3"
)

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

// normalizeNumbers gives equal numbers in a value the same notation: 1.0 and 10e-1 become 1e0.
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

// normalizeNumber returns a number as digits without leading or trailing zeros, and an exponent.
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
	case hasExponent && err != nil: // The exponent is too large, so the number equals only itself.
		return n
	case negative:
		text = "-" + significant
	default:
		text = significant
	}
	return json.Number(text + "e" + strconv.FormatInt(e+int64(len(digits)-len(significant)-len(fraction)), 10))
}

// Properties converts metadata to properties: strings get keys with MetaPrefix; other values become JSON, with JSONPrefix.
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
			if key, ok = strings.CutPrefix(k, JSONPrefix); !ok || decodeJSON([]byte(text), &v) != nil {
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
	var updates []table.Update
	if len(props) > 0 {
		updates = append(updates, table.NewSetPropertiesUpdate(props))
	}
	if len(removed) > 0 {
		updates = append(updates, table.NewRemovePropertiesUpdate(removed))
	}
	if len(updates) == 0 {
		return meta, nil
	}
	return table.UpdateTableMetadata(meta, updates, "")
}

func hashOf(v any) int64 { return int64(xxh3.HashString(Canonical(v))) }

// index updates partd_meta, the index of tables by metadata, after a table's metadata changed from old to updated.
func (w *transaction) index(n TableName, old, updated map[string]any) {
	for k, v := range old {
		w.exec(`DELETE FROM partd_meta WHERE namespace=? AND key=? AND hash=? AND name=?`, n.Namespace, k, hashOf(v), n.Name)
	}
	for k, v := range updated {
		w.exec(`INSERT INTO partd_meta VALUES (?,?,?,?) ON CONFLICT DO NOTHING`, n.Namespace, k, hashOf(v), n.Name)
	}
}

// reindex updates the index of tables by metadata before a table's metadata becomes meta (in JSON).
func (w *transaction) reindex(n TableName, meta string) {
	stored := cmp.Or(strings.Join(w.strings(`SELECT metadata FROM partd_tables WHERE namespace=? AND name=?`, n.Namespace, n.Name), ""), "null")
	unlistedRows := w.exec(`DELETE FROM partd_unlisted WHERE namespace=? AND name=?`, n.Namespace, n.Name)
	if w.err != nil || unlistedRows == 0 && stored == meta {
		return
	}
	old, err := ParseMetadata([]byte(stored))
	updated, err2 := ParseMetadata([]byte(meta))
	if w.err = cmp.Or(err, err2); w.err == nil {
		w.index(n, old, updated)
	}
}

// maxFindKeys limits the keys in a search, because SQLite limits the complexity of a query.
const maxFindKeys = 100

// Find calls f for the tables of a namespace with the given metadata, sorted by name, until f returns false. f must check the
// metadata, because Find can also return other tables.
func (c *Catalog) Find(ctx context.Context, namespace string, meta map[string]any, f func(Listed) bool) error {
	var q strings.Builder
	var args []any
	for i, k := range slices.Sorted(maps.Keys(meta)) {
		if i == maxFindKeys {
			break
		}
		if i > 0 {
			q.WriteString(" INTERSECT ")
		}
		q.WriteString(`SELECT name FROM partd_meta WHERE namespace=? AND key=? AND hash=?`)
		args = append(args, namespace, k, hashOf(meta[k]))
	}
	q.WriteString(` UNION SELECT name FROM partd_unlisted WHERE namespace=? ORDER BY 1`)
	names, err := c.strings(ctx, q.String(), append(args, namespace)...)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(names, 500) {
		args := []any{namespace}
		for _, name := range chunk {
			args = append(args, name)
		}
		page, err := c.listed(ctx, selectTables+` AND t.table_namespace=? AND t.table_name IN (?`+strings.Repeat(",?", len(chunk)-1)+`) ORDER BY t.table_name`, args...)
		if err != nil {
			return err
		}
		for _, l := range page {
			if !f(l) {
				return nil
			}
		}
	}
	return nil
}

// Unlisted returns the names of tables in a namespace that other engines created or renamed. The tables may no longer exist.
func (c *Catalog) Unlisted(ctx context.Context, namespace string) ([]string, error) {
	return c.strings(ctx, `SELECT name FROM partd_unlisted WHERE namespace=?`, namespace)
}

// NamespaceMetadata returns a namespace's metadata, and reports whether the namespace exists.
func (c *Catalog) NamespaceMetadata(ctx context.Context, namespace string) (map[string]any, bool, error) {
	exists, err := c.HasNamespace(ctx, namespace)
	if err != nil || !exists {
		return nil, false, err
	}
	m, err := namespaceMetadata(ctx, c.reads, namespace)
	return m, true, err
}

func namespaceMetadata(ctx context.Context, db querier, namespace string) (map[string]any, error) {
	props := map[string]string{}
	err := query(ctx, db, func(rows *sql.Rows) error {
		var k string
		var v sql.NullString
		err := rows.Scan(&k, &v)
		props[k] = v.String
		return err
	}, selectProperties, namespace)
	return FromProperties(props), err
}

func (w *transaction) namespaceMetadata(namespace string) (m map[string]any) {
	if w.err == nil {
		m, w.err = namespaceMetadata(w.ctx, w.tx, namespace)
	}
	return m
}

// ChangeNamespaceMetadata returns a hook that replaces a namespace's metadata with the result of change. It creates a missing
// namespace.
func ChangeNamespaceMetadata(namespace string, change func(map[string]any) (map[string]any, error)) TxHook {
	return func(w *transaction) {
		stored := w.namespaceMetadata(namespace)
		if w.err != nil {
			return
		}
		var changed map[string]any
		changed, w.err = change(stored)
		for k := range Properties(stored) {
			w.exec(deleteProperty, namespace, k)
		}
		for k, v := range Properties(changed) {
			w.exec(insertProperty, namespace, k, v)
		}
		w.exec(insertNamespace, namespace)
	}
}
