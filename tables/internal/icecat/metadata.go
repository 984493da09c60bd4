package icecat

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"
)

// ParseMetadata reads an object of JSON whose numbers stay as they are written.
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
		return errors.New("more than one JSON value")
	}
	return nil
}

// Canonical is the same text for equal values, those that ParseMetadata returns.
func Canonical(v any) string {
	b, err := json.Marshal(withPlainNumbers(v))
	if err != nil {
		return "" // none that was parsed
	}
	return string(b)
}

// withPlainNumbers writes 1.0 and 10e-1 as 1e0.
func withPlainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return plainNumber(v)
	case []any:
		plain := make([]any, len(v))
		for i, e := range v {
			plain[i] = withPlainNumbers(e)
		}
		return plain
	case map[string]any:
		plain := make(map[string]any, len(v))
		for k, e := range v {
			plain[k] = withPlainNumbers(e)
		}
		return plain
	}
	return v
}

// plainNumber is the digits of a number, without zeros around them, and an exponent.
func plainNumber(n json.Number) json.Number {
	text, exponent, has := strings.Cut(strings.ToLower(n.String()), "e")
	e, err := strconv.ParseInt(exponent, 10, 32)
	text, negative := strings.CutPrefix(text, "-")
	whole, fraction, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	switch {
	case short == "":
		return "0"
	case has && err != nil: // as large as this it is equal to itself alone
		return n
	case negative:
		text = "-" + short
	default:
		text = short
	}
	return json.Number(text + "e" + strconv.FormatInt(e+int64(len(digits)-len(short)-len(fraction)), 10))
}

// Properties returns metadata as properties, which are texts: those that are texts
// under one prefix, and other values as JSON under another.
func Properties(m map[string]any) map[string]string {
	props := map[string]string{}
	for k, v := range m {
		if text, ok := v.(string); ok {
			props[MetaPrefix+k] = text
		} else if b, err := json.Marshal(v); err == nil { // as of all that was parsed
			props[JSONPrefix+k] = string(b)
		}
	}
	return props
}

// IsMetadata reports whether a property is metadata.
func IsMetadata(property string) bool {
	return strings.HasPrefix(property, MetaPrefix) || strings.HasPrefix(property, JSONPrefix)
}

// FromProperties is the metadata that properties have, nil without any.
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

func hashOf(v any) int64 { return int64(xxh3.HashString(Canonical(v))) }

// index keeps by which metadata a table is found: of its name, which had old.
func index(ctx context.Context, tx *sql.Tx, n TableName, old, now map[string]any) error {
	for k, v := range old {
		if _, err := tx.ExecContext(ctx, `DELETE FROM partd_meta WHERE namespace=? AND key=? AND hash=? AND name=?`, n.Namespace, k, hashOf(v), n.Name); err != nil {
			return err
		}
	}
	for k, v := range now {
		if _, err := tx.ExecContext(ctx, `INSERT INTO partd_meta VALUES (?,?,?,?) ON CONFLICT DO NOTHING`, n.Namespace, k, hashOf(v), n.Name); err != nil {
			return err
		}
	}
	return nil
}

// reindex brings the index up to the metadata, as JSON, that a name is about to get.
func reindex(ctx context.Context, tx *sql.Tx, n TableName, meta string) error {
	var was string
	err := tx.QueryRowContext(ctx, `SELECT metadata FROM partd_tables WHERE namespace=? AND name=?`, n.Namespace, n.Name).Scan(&was)
	if errors.Is(err, sql.ErrNoRows) {
		was, err = "null", nil
	}
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM partd_unlisted WHERE namespace=? AND name=?`, n.Namespace, n.Name)
	if err != nil {
		return err
	}
	if unlisted, err := res.RowsAffected(); err != nil || unlisted == 0 && was == meta {
		return err
	}
	old, err := ParseMetadata([]byte(was))
	if err != nil {
		return err
	}
	now, err := ParseMetadata([]byte(meta))
	if err != nil {
		return err
	}
	return index(ctx, tx, n, old, now)
}

// mostFindKeys is by how many keys tables are looked for; SQLite has a limit.
const mostFindKeys = 100

// Find calls f for the tables of a namespace that may have all of some metadata, in
// the order of names: those that have, and a few for which f must look.
func (c *Catalog) Find(ctx context.Context, namespace string, meta map[string]any, f func(Listed) bool) error {
	var q strings.Builder
	var args []any
	for i, k := range slices.Sorted(maps.Keys(meta)) {
		if i == mostFindKeys {
			break
		}
		if i > 0 {
			q.WriteString(" INTERSECT ")
		}
		q.WriteString(`SELECT name FROM partd_meta WHERE namespace=? AND key=? AND hash=?`)
		args = append(args, namespace, k, hashOf(meta[k]))
	}
	q.WriteString(` UNION SELECT name FROM partd_unlisted WHERE namespace=? ORDER BY 1`)
	found, err := c.strings(ctx, q.String(), append(args, namespace)...)
	if err != nil {
		return err
	}
	for names := range slices.Chunk(found, 500) {
		args := []any{namespace}
		for _, name := range names {
			args = append(args, name)
		}
		page, err := c.list(ctx, ` AND t.table_namespace=? AND t.table_name IN (?`+strings.Repeat(",?", len(names)-1)+`) ORDER BY t.table_name`, args...)
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

// Unlisted returns the tables of a namespace that others made or renamed, and some
// that are no more.
func (c *Catalog) Unlisted(ctx context.Context, namespace string) ([]string, error) {
	return c.strings(ctx, `SELECT name FROM partd_unlisted WHERE namespace=?`, namespace)
}

// NamespaceMetadata returns the metadata of a namespace, and whether there is one.
func (c *Catalog) NamespaceMetadata(ctx context.Context, namespace string) (map[string]any, bool, error) {
	there, err := c.HasNamespace(ctx, namespace)
	if err != nil || !there {
		return nil, false, err
	}
	m, err := namespaceMetadata(ctx, c.reads, namespace)
	return m, true, err
}

func namespaceMetadata(ctx context.Context, db querier, namespace string) (map[string]any, error) {
	rows, err := db.QueryContext(ctx, selectProperties, namespace)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err below says what went wrong
	props := map[string]string{}
	for rows.Next() {
		var k string
		var v sql.NullString
		if err := rows.Scan(&k, &v); err != nil {
			return nil, err
		}
		props[k] = v.String
	}
	return FromProperties(props), rows.Err()
}

// querier is a database, or a transaction.
type querier interface {
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}

// ChangeNamespaceMetadata makes a namespace's metadata what change returns, as a
// part of a commit. A namespace that is missing is made.
func ChangeNamespaceMetadata(namespace string, change func(map[string]any) (map[string]any, error)) TxHook {
	return func(ctx context.Context, tx *sql.Tx) error {
		was, err := namespaceMetadata(ctx, tx, namespace)
		if err != nil {
			return err
		}
		now, err := change(was)
		if err != nil {
			return err
		}
		for k := range Properties(was) {
			if _, err := tx.ExecContext(ctx, deleteProperty, namespace, k); err != nil {
				return err
			}
		}
		for k, v := range Properties(now) {
			if _, err := tx.ExecContext(ctx, insertProperty, namespace, k, v); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, insertNamespace, namespace)
		return err
	}
}
