//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// Name is a table as a statement writes it.
type Name struct {
	Catalog, Schema, Table string
	At                     int // in the statement, in bytes; -1: unknown
}

// Names returns the tables that a statement names, by parsing alone: binding would
// need them, and DuckDB's own list leaves some out.
func (d *Database) Names(sql string) ([]Name, error) {
	n := explains(sql)
	text, err := d.parse(strings.Repeat(" ", n) + sql[n:])
	if err != nil {
		return nil, err
	}
	var parsed struct {
		failure
		Failed     bool              `json:"error"`
		Statements []json.RawMessage `json:"statements"`
	}
	if err := json.Unmarshal(text, &parsed); err != nil {
		return nil, err
	}
	switch {
	case parsed.Failed && strings.Contains(parsed.Parsing, "Only SELECT"):
		if strings.Contains(strings.ToLower(sql), "pivot") {
			return nil, Refused(sql, -1, "%w; PIVOT that finds its columns by itself is several statements: name them, as in FROM t PIVOT (sum(x) FOR y IN ('a', 'b'))", errOneSelect)
		}
		return nil, Refused(sql, -1, "%w", errOneSelect)
	case parsed.Failed:
		return nil, parsed.error(sql, errors.New("Parser error: "+parsed.Parsing))
	case len(parsed.Statements) != 1:
		return nil, Refused(sql, -1, "%w", errOneSelect)
	}
	w := &walker{sql: sql}
	decoder := json.NewDecoder(bytes.NewReader(parsed.Statements[0]))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return nil, err
	}
	w.walk(tree, nil)
	return w.names, w.err
}

var explainForm = regexp.MustCompile(`(?is)^(\s|--[^\n]*\n|/\*.*?\*/)*EXPLAIN\s+`)

const explain = "EXPLAIN "

// explains is the length of the EXPLAIN before a statement, 0 without one. What it runs
// as has this one EXPLAIN in its place, and nothing that might be one of its options.
func explains(sql string) int { return len(explainForm.FindString(sql)) }

// parse returns the statement's parse tree as JSON.
func (d *Database) parse(sql string) ([]byte, error) {
	var stmt duckdb.PreparedStatement
	defer duckdb.DestroyPrepare(&stmt)
	if duckdb.Prepare(d.conn, "SELECT json_serialize_sql($1::VARCHAR)::VARCHAR", &stmt) == duckdb.StateError {
		return nil, decodeError("", duckdb.PrepareError(stmt))
	}
	duckdb.BindVarchar(stmt, 1, sql)
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	if duckdb.ExecutePrepared(stmt, &result) == duckdb.StateError {
		return nil, decodeError(sql, duckdb.ResultError(&result))
	}
	chunk := duckdb.FetchChunk(result)
	defer duckdb.DestroyDataChunk(&chunk)
	if chunk.Ptr == nil {
		return nil, decodeError(sql, duckdb.ResultError(&result))
	}
	tree := (*duckdb.StringT)(duckdb.VectorGetData(duckdb.DataChunkGetVector(chunk, 0)))
	return []byte(duckdb.StringTData(tree)), nil
}

// walker goes through a parse tree.
type walker struct {
	sql   string
	names []Name
	err   error
	depth int // of calls of macros
}

// What may stand after FROM: what else DuckDB has there shows its own state, or
// reads files, or runs texts.
var (
	tableFunctions = []string{"range", "generate_series", "unnest", "json_each", "json_tree", "repeat"}
	tableRefs      = []string{"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "COLUMN_DATA", "SHOW_REF"}
	shows          = []string{"DESCRIBE", "SUMMARY"} // of a statement or a table; others list what DuckDB has
)

// Functions that show settings, the environment or the views that tables are, or
// that can end the process.
var forbidden = []string{
	"current_setting", "getenv", "getvariable", "json_serialize_plan", "write_log", "get_block_size", "nextval", "currval",
	"stats", "query", "query_table", "seq_scan",

	// These count the statements that the database had before.
	"current_connection_id", "current_query_id", "current_transaction_id", "txid_current",

	// These follow nested JSON by recursion, and overflow the stack.
	"json_structure", "json_group_structure", "json_contains", "json_transform", "json_transform_strict", "from_json", "from_json_strict",
	"json_merge_patch", "json_serialize_sql", "json_deserialize_sql",
}

// walk collects the tables of a part of the tree in which some names mean common
// table expressions.
func (w *walker) walk(part any, hidden map[string]bool) {
	if w.err != nil {
		return
	}
	switch part := part.(type) {
	case []any:
		for _, p := range part {
			w.walk(p, hidden)
		}
	case map[string]any:
		w.check(part)
		if called := text(part, "function_name"); copying[strings.ToLower(called)] {
			w.depth++
			defer func() { w.depth-- }()
			if w.depth > maxCopying {
				w.err = Refused(w.sql, position(part), "%q and its like stand in each other more than %d deep: compute what is within in a WITH", called, maxCopying)
			}
		}
		hidden = w.common(part, hidden)
		if part["class"] == nil && part["type"] == "BASE_TABLE" {
			n := Name{text(part, "catalog_name"), text(part, "schema_name"), text(part, "table_name"), position(part)}
			switch {
			case n.Catalog != "" && n.Catalog != Catalog && n.Catalog != Before:
				w.err = Refused(w.sql, n.At, "%s.%s.%s: the only catalog is %s; a table is \"table\", \"bucket\".\"table\" or %[4]s.\"bucket\".\"table\"", sqlquote.Name(n.Catalog), sqlquote.Name(n.Schema), sqlquote.Name(n.Table), Catalog)
			case n.Schema != "" || !hidden[strings.ToLower(n.Table)]:
				w.names = append(w.names, n)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(part)) {
			if key != "cte_map" {
				w.walk(part[key], hidden)
			}
		}
	}
}

// common walks through the common table expressions of a query, and returns what
// names are hidden in the rest of it. Each sees those before it.
func (w *walker) common(part map[string]any, hidden map[string]bool) map[string]bool {
	add := func(name string) {
		hidden = maps.Clone(hidden)
		if hidden == nil {
			hidden = map[string]bool{}
		}
		hidden[strings.ToLower(name)] = true
	}
	if with, ok := part["cte_map"].(map[string]any); ok {
		all, _ := with["map"].([]any)
		for _, one := range all {
			if entry, ok := one.(map[string]any); ok {
				w.walk(entry["value"], hidden)
				add(text(entry, "key"))
			}
		}
	}
	switch part["type"] {
	case "RECURSIVE_CTE_NODE":
		add(text(part, "cte_name"))
	case "CTE_NODE":
		w.walk(part["query"], hidden)
		delete(part, "query")
		add(text(part, "cte_name"))
	}
	return hidden
}

// check refuses what is no business of a query over tables.
func (w *walker) check(part map[string]any) {
	kind := text(part, "type")
	if f, ok := part["function"].(map[string]any); ok && kind == "TABLE_FUNCTION" {
		if called := strings.ToLower(text(f, "function_name")); !slices.Contains(tableFunctions, called) {
			w.err = Refused(w.sql, position(part), "there is no table function %q here, only %s", called, strings.Join(tableFunctions, ", "))
		}
	}
	called := strings.ToLower(text(part, "function_name"))
	schema := text(part, "schema")
	if strings.HasSuffix(called, "like_escape") && schema == "main" && text(part, "catalog") == "" { // so LIKE … ESCAPE is parsed
		schema = ""
	}
	if schema != "" && (slices.Contains(guarded, called) || strings.HasSuffix(called, "like_escape")) {
		w.err = Refused(w.sql, position(part), "the function %q is called without a schema", called)
	}
	if text(part, "id") == "VARIANT" {
		w.err = Refused(w.sql, position(part), "the type VARIANT is not available")
	}
	if slices.Contains(forbidden, called) || strings.HasPrefix(called, "pg_get_") || strings.HasPrefix(called, "duckdb_") || strings.HasPrefix(called, "variant_") {
		w.err = Refused(w.sql, position(part), "the function %q is not available", called)
	}
	if kind == "SHOW_REF" && (part["query"] == nil || text(part, "table_name") != "" || !slices.Contains(shows, text(part, "show_type"))) {
		w.err = Refused(w.sql, position(part), "SHOW TABLES and SHOW ALL TABLES stand alone, and there is no other SHOW")
	}
	if _, isTable := part["sample"]; isTable && part["class"] == nil && part["alias"] != nil && !slices.Contains(tableRefs, kind) {
		w.err = Refused(w.sql, position(part), "%s is not available after FROM", kind)
	}
}

func text(part map[string]any, key string) string {
	s, _ := part[key].(string)
	return s
}

// position is where a part is in the statement.
func position(part map[string]any) int {
	n, _ := part["query_location"].(json.Number)
	if at, err := n.Int64(); err == nil {
		return int(at)
	}
	return -1
}
