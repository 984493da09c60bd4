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

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Name is a table's name in a statement.
type Name struct {
	Catalog, Schema, Table string
	Offset                 int // in bytes from the start of the statement; -1 if unknown

	Columns    []string // in lower case, sorted: every identifier of the statement that can be a column of this table
	AllColumns bool     // the statement can also use columns that it does not name, as SELECT * does
	WholeRows  []string // in lower case: table names and aliases used like columns, so each can mean a whole row

	Selection *Selection // nil if the statement does more than a Selection, and for EXPLAIN
}

// TableNames returns the table names in a statement. It only parses the statement, because binding would require the
// tables. It does not use DuckDB's own list of the names, which is incomplete.
func (d *Database) TableNames(sql string) ([]Name, error) {
	names, tree, err := d.parseNames(sql)
	if len(names) == 1 && explainLength(sql) == 0 {
		names[0].Selection = selectionOf(tree)
	}
	return names, err
}

// parseNames returns the table names in a statement and its parse tree.
func (d *Database) parseNames(sql string) (names []Name, tree any, err error) {
	n := explainLength(sql)
	text, err := d.parse(strings.Repeat(" ", n) + sql[n:])
	if err != nil {
		return nil, nil, err
	}
	var parsed struct {
		failure
		Failed     bool              `json:"error"`
		Statements []json.RawMessage `json:"statements"`
	}
	if err := json.Unmarshal(text, &parsed); err != nil {
		return nil, nil, err
	}
	switch {
	case parsed.Failed && strings.Contains(parsed.Parsing, "Only SELECT"):
		if strings.Contains(strings.ToLower(sql), "pivot") {
			return nil, nil, sqltext.RefusedAt(sql, -1, "%w: a PIVOT without IN counts as several statements; list its columns, as in FROM t PIVOT (sum(x) FOR y IN ('a', 'b'))", errOneSelect)
		}
		return nil, nil, sqltext.RefusedAt(sql, -1, "%w", errOneSelect)
	case parsed.Failed:
		return nil, nil, parsed.error(sql, errors.New("Parser error: "+parsed.Parsing))
	case len(parsed.Statements) != 1:
		return nil, nil, sqltext.RefusedAt(sql, -1, "%w", errOneSelect)
	}
	w := &walker{sql: sql}
	decoder := json.NewDecoder(bytes.NewReader(parsed.Statements[0]))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return nil, nil, err
	}
	w.walk(tree, nil)
	w.columns.assign(w.names)
	return w.names, tree, w.err
}

var explainPattern = regexp.MustCompile(`(?is)^(\s|--[^\n]*\n|/\*.*?\*/)*EXPLAIN\s+`)

const explainPrefix = "EXPLAIN "

// explainLength returns the length of a statement's beginning through EXPLAIN and the spaces after it, or 0 without
// EXPLAIN.
func explainLength(sql string) int { return len(explainPattern.FindString(sql)) }

func (d *Database) parse(sql string) ([]byte, error) {
	tree, err := d.textOf("SELECT json_serialize_sql($1::VARCHAR)::VARCHAR", sql)
	return notFinite.ReplaceAll(tree, []byte(`"value":null`)), err
}

// textOf returns the only value in the result of a query whose parameter is sql.
func (d *Database) textOf(query, sql string) ([]byte, error) {
	var stmt duckdb.PreparedStatement
	defer duckdb.DestroyPrepare(&stmt)
	if duckdb.Prepare(d.conn, query, &stmt) == duckdb.StateError {
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
	value := (*duckdb.StringT)(duckdb.VectorGetData(duckdb.DataChunkGetVector(chunk, 0)))
	return []byte(duckdb.StringTData(value)), nil
}

// notFinite matches infinite constants and NaN, which DuckDB writes although JSON has no such numbers. It matches
// nothing within a string, where each quote follows a backslash.
var notFinite = regexp.MustCompile(`"value":-?(Infinity|NaN)`)

type walker struct {
	sql   string
	names []Name
	err   error
	depth int // nesting of macro calls

	columns columnRefs
}

// Sources allowed after FROM. Other sources show DuckDB's own state, read files, or execute text as SQL.
var (
	tableFunctions = []string{"range", "generate_series", "unnest", "json_each", "json_tree", "repeat"}
	tableRefs      = []string{"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "COLUMN_DATA", "SHOW_REF"}
	// describe a statement or a table; other types list DuckDB's objects
	showTypes = []string{"DESCRIBE", "SUMMARY"}
)

// forbiddenFunctions lists functions that show settings, the environment or the definitions of views, or that can crash
// the process.
var forbiddenFunctions = []string{
	"current_setting", "getenv", "getvariable", "json_serialize_plan", "write_log", "get_block_size", "nextval", "currval",
	"stats", "query", "query_table", "seq_scan",

	// These occupy one of few slots without using the processor.
	"sleep_ms", "pg_sleep",

	// These reveal how many statements the database has run.
	"current_connection_id", "current_query_id", "current_transaction_id", "txid_current",

	// These recurse into nested JSON and overflow the stack.
	"json_structure", "json_group_structure", "json_contains", "json_transform", "json_transform_strict", "from_json", "from_json_strict",
	"json_merge_patch", "json_serialize_sql", "json_deserialize_sql",
}

// walk collects the tables in a subtree. Names in hidden refer to common table expressions.
func (w *walker) walk(node any, hidden map[string]bool) {
	if w.err != nil {
		return
	}
	switch node := node.(type) {
	case []any:
		for _, p := range node {
			w.walk(p, hidden)
		}
	case map[string]any:
		w.checkNode(node)
		w.columns.add(node)
		if function := stringField(node, "function_name"); macroNames[strings.ToLower(function)] {
			w.depth++
			defer func() { w.depth-- }()
			if w.depth > maxNestedMacros {
				w.err = sqltext.RefusedAt(w.sql, offsetOf(node), "%q and similar functions are nested more than %d levels deep: compute the inner ones in a WITH clause", function, maxNestedMacros)
			}
		}
		hidden = w.walkCommonTables(node, hidden)
		if node["class"] == nil && node["type"] == "BASE_TABLE" {
			n := Name{Catalog: stringField(node, "catalog_name"), Schema: stringField(node, "schema_name"), Table: stringField(node, "table_name"), Offset: offsetOf(node)}
			switch {
			case n.Catalog != "" && n.Catalog != Catalog && n.Catalog != Before && n.Catalog != Changes:
				w.err = sqltext.RefusedAt(w.sql, n.Offset, "%s.%s.%s: the only catalog is %s; a table is \"table\", \"bucket\".\"table\" or %[4]s.\"bucket\".\"table\"", sqltext.Name(n.Catalog), sqltext.Name(n.Schema), sqltext.Name(n.Table), Catalog)
			case n.Schema != "" || !hidden[strings.ToLower(n.Table)]:
				w.names = append(w.names, n)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(node)) {
			if key != "cte_map" {
				w.walk(node[key], hidden)
			}
		}
	}
}

// walkCommonTables walks a query's common table expressions, each of which can refer to earlier ones. For the rest of
// the query, it returns hidden plus the expressions' names.
func (w *walker) walkCommonTables(node map[string]any, hidden map[string]bool) map[string]bool {
	add := func(name string) {
		hidden = maps.Clone(hidden)
		if hidden == nil {
			hidden = map[string]bool{}
		}
		hidden[strings.ToLower(name)] = true
	}
	if cteMap, ok := node["cte_map"].(map[string]any); ok {
		entries, _ := cteMap["map"].([]any)
		for _, e := range entries {
			if entry, ok := e.(map[string]any); ok {
				w.walk(entry["value"], hidden)
				add(stringField(entry, "key"))
			}
		}
	}
	switch node["type"] {
	case "RECURSIVE_CTE_NODE":
		add(stringField(node, "cte_name"))
	case "CTE_NODE":
		w.walk(node["query"], hidden)
		delete(node, "query")
		add(stringField(node, "cte_name"))
	}
	return hidden
}

// checkNode rejects everything that a query on tables must not do.
func (w *walker) checkNode(node map[string]any) {
	nodeType := stringField(node, "type")
	if f, ok := node["function"].(map[string]any); ok && nodeType == "TABLE_FUNCTION" {
		if function := strings.ToLower(stringField(f, "function_name")); !slices.Contains(tableFunctions, function) {
			w.err = sqltext.RefusedAt(w.sql, offsetOf(node), "table function %q is not available, only %s", function, strings.Join(tableFunctions, ", "))
		}
	}
	function := strings.ToLower(stringField(node, "function_name"))
	schema := stringField(node, "schema")
	// The parser converts LIKE … ESCAPE to a call of main.like_escape or a similar function.
	if strings.HasSuffix(function, "like_escape") && schema == "main" && stringField(node, "catalog") == "" {
		schema = ""
	}
	if schema != "" && (slices.Contains(guardedFunctions, function) || strings.HasSuffix(function, "like_escape")) {
		w.err = sqltext.RefusedAt(w.sql, offsetOf(node), "function %q must be called without a schema", function)
	}
	if stringField(node, "class") == "TYPE" && strings.EqualFold(stringField(node, "type_name"), "VARIANT") {
		w.err = sqltext.RefusedAt(w.sql, offsetOf(node), "type VARIANT is not available")
	}
	if slices.Contains(forbiddenFunctions, function) || strings.HasPrefix(function, "pg_get_") || strings.HasPrefix(function, "duckdb_") || strings.HasPrefix(function, "variant_") {
		w.err = sqltext.RefusedAt(w.sql, offsetOf(node), "function %q is not available", function)
	}
	if nodeType == "SHOW_REF" && (node["query"] == nil || stringField(node, "table_name") != "" || !slices.Contains(showTypes, stringField(node, "show_type"))) {
		w.err = sqltext.RefusedAt(w.sql, offsetOf(node), "only SHOW TABLES and SHOW ALL TABLES are available, each as a separate statement")
	}
	if _, isTable := node["sample"]; isTable && node["class"] == nil && node["alias"] != nil && !slices.Contains(tableRefs, nodeType) {
		w.err = sqltext.RefusedAt(w.sql, offsetOf(node), "%s is not available after FROM", nodeType)
	}
}

func stringField(node map[string]any, key string) string {
	s, _ := node[key].(string)
	return s
}

// offsetOf returns a node's offset in the statement, in bytes, or -1.
func offsetOf(node map[string]any) int {
	n, _ := node["query_location"].(json.Number)
	if offset, err := n.Int64(); err == nil {
		return int(offset)
	}
	return -1
}
