//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

const (
	asOfUsing = "%s is not proved together with USING in an ASOF join: use ON"

	// asOfNested fails for a value v whose type is nested, because DuckDB 1.5 then finds no rows, or wrong ones, if there
	// is another equality (docs/dev/upstream.md). The statement fails when it runs: the proof does not know types.
	asOfNested = `WHEN regexp_matches(typeof(v), '^(STRUCT|MAP|UNION)\(|\]$') THEN error('each does not compare lists, structs, maps or unions in an ASOF join, because DuckDB finds wrong rows: compare their elements, or v::VARCHAR')`
)

// excludeNulls changes an ASOF join so that NULL matches nothing. DuckDB 1.5 has two plans. In the plan for 64 or more
// rows, NULL can match, except in the first equality (docs/dev/upstream.md). So excludeNulls adds an equality of values
// that are never NULL, before all others: 1 stands for a value, 0 for NULL on the left side, and 2 for NULL on the right
// side. IS NOT NULL would have the same result, but then DuckDB compares all pairs of rows in a LEFT JOIN.
//
// With USING, these values must be columns: excludeNulls adds one to both sides and returns its name.
func (c *keyChecker) excludeNulls(join map[string]any, left, right *relation, using []string) (hidden []string) {
	c.numAsOf++
	if len(using) > 0 {
		return []string{c.addColumns(join, left, right, using)}
	}
	var conditions []any
	for _, condition := range conjuncts(join["condition"]) {
		conditions = append(conditions, condition)
		if strings.HasSuffix(stringField(condition, "type"), "DISTINCT_FROM") { // both plans have wrong rows for NULL
			c.refuse(condition, "IS DISTINCT FROM is not proved in an ASOF join: use = or <>")
		}
		if stringField(condition, "class") != "COMPARISON" {
			continue
		}
		query := c.parse("SELECT CASE WHEN v IS NULL THEN 0 " + asOfNested + " ELSE 1 END = CASE WHEN v IS NULL THEN 2 " + asOfNested + " ELSE 1 END")
		for _, equality := range mapsField(query, "select_list") {
			for _, side := range []string{"left", "right"} {
				checks := mapsField(mapField(equality, side), "case_checks")
				typeOf := mapsField(mapField(checks[1], "when_expr"), "children")[0]
				for _, operator := range []map[string]any{mapField(checks[0], "when_expr"), typeOf} {
					operator["children"] = []any{condition[side]}
				}
			}
			conditions = slices.Insert(conditions, 0, any(equality))
		}
	}
	join["condition"] = map[string]any{"class": "CONJUNCTION", "type": "CONJUNCTION_AND", "alias": "", "children": conditions}
	return nil
}

// addColumns adds a column to both sides of an ASOF join, as the first of USING. It returns the column's name.
func (c *keyChecker) addColumns(join map[string]any, left, right *relation, using []string) string {
	name, isNull, nested := fmt.Sprint("asof ", c.numAsOf), "", ""
	for _, column := range using {
		isNull += sqltext.Name(column) + " IS NULL OR "
		nested += strings.ReplaceAll(asOfNested, "typeof(v)", "typeof("+sqltext.Name(column)+")") + " "
	}
	table := mapField(join, "left") // the first table of the left side: these joins keep its rows
	for slices.Contains([]string{"INNER", "LEFT", "SEMI", "ANTI"}, stringField(table, "join_type")) {
		table = mapField(table, "left")
	}
	isOther := func(name string) bool {
		i := indexOf(left.visible, name)
		return i >= 0 && left.visible[i].table != fold(aliasOf(table))
	}
	if stringField(table, "type") == "JOIN" || stringField(mapField(join, "right"), "type") == "JOIN" || slices.ContainsFunc(using, isOther) {
		c.refuse(join, asOfUsing, "a join")
		return name
	}
	add := func(table map[string]any, r *relation, null int) {
		query := c.parse(fmt.Sprintf("FROM (SELECT *, CASE WHEN %s false THEN %d %s ELSE 1 END AS %s FROM t)", isNull, null, nested, sqltext.Name(name)))
		if query == nil {
			return
		}
		subquery, alias := mapField(query, "from_table"), aliasOf(table)
		subquery["alias"] = alias
		mapField(mapField(subquery, "subquery"), "node")["from_table"] = maps.Clone(table)
		clear(table)
		maps.Copy(table, subquery)
		column := keyedColumn{table: fold(alias), name: name, isHidden: true}
		r.visible, r.qualified = append(r.visible, column), append(r.qualified, column)
	}
	add(table, left, 0)
	add(mapField(join, "right"), right, 2)
	join["using_columns"] = slices.Insert(listField(join, "using_columns"), 0, any(name))
	return name
}

// aliasOf returns the name of a table in a FROM clause.
func aliasOf(table map[string]any) string {
	return cmp.Or(stringField(table, "alias"), stringField(table, "table_name"))
}

// parse returns the parse tree of a query. If it fails, it refuses the statement and returns nil.
func (c *keyChecker) parse(sql string) map[string]any {
	_, tree, err := c.db.parseNames(sql)
	if err != nil {
		c.refuse(nil, "%v", err)
	}
	statement, _ := tree.(map[string]any)
	return mapField(statement, "node")
}

// textOf returns the text of a changed statement. It refuses the statement if the text that DuckDB writes has another
// parse tree, as for a join in parentheses after CROSS JOIN.
func (c *keyChecker) textOf(statement any) string {
	tree, _ := json.Marshal(map[string]any{"error": false, "statements": []any{statement}})
	text, _ := c.db.textOf("SELECT json_deserialize_sql($1::JSON)", string(tree))
	_, again, _ := c.db.parseNames(string(text))
	eachNode([]any{statement, again}, func(node map[string]any) {
		inner := mapField(mapField(node, "subquery"), "node")
		if inner != nil && stringField(node, "alias") == "valueslist" { // DuckDB adds a SELECT to VALUES
			clear(node)
			maps.Copy(node, mapField(inner, "from_table"))
		}
		delete(node, "query_location")
		typ := mapField(mapField(node, "type_info"), "expr")
		if stringField(node, "id") == "UNBOUND" && stringField(typ, "schema") == "" && len(listField(typ, "children")) == 0 {
			node["id"], node["type_info"] = typ["type_name"], nil // as in the casts that DuckDB adds to INTERVAL
		}
	})
	if !reflect.DeepEqual(again, statement) {
		c.refuse(nil, "the statement is not proved with an ASOF join: write numbers with an exponent as '1e9'::DOUBLE, and leave out infinite constants, COLUMNS('…') and joins in parentheses")
	}
	return string(text)
}
