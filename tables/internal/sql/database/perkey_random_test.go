//go:build cgo

package database

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestPerKeyRandom compares random statements that PerKey accepts between all rows and parts. PERKEY_ROUNDS is the
// number of times that the tables get new rows, and PERKEY_SEED selects the statements and rows.
func TestPerKeyRandom(t *testing.T) {
	const statements = 40 // for the same rows
	rounds, _ := strconv.Atoi(cmp.Or(os.Getenv("PERKEY_ROUNDS"), "4"))
	seed, _ := strconv.ParseUint(cmp.Or(os.Getenv("PERKEY_SEED"), "1"), 10, 64)
	d := newKeyedData(t, seed)
	counts := map[string]int{}
	for range rounds {
		d.fill()
		for range statements {
			g := &generator{d: d, keys: []string{"k", "k", "k,j", "k,j", "j,k", "s", "f"}[d.random.IntN(7)]}
			sql := g.statement()
			inputs := namedIn(t, d.Database, sql, g.keys)
			if len(inputs) == 0 {
				continue
			}
			perKey, _, err := d.PerKey(sql, inputs)
			if err != nil {
				counts["refused"]++
				continue
			}
			_, tree, err := d.parseNames(perKey)
			must.Do(t, err)
			c := &keyChecker{db: d.Database}
			if text := c.textOf(tree); c.refusal == "" {
				perKey = text // as for an ASOF join
				counts["text"]++
			}
			whole, parted, err := d.runBoth(sql, perKey, g.keys)
			switch {
			case errors.Is(err, errBroken):
				counts["broken"]++
			case errors.Is(err, errLarge) || NeedsMemory(err):
				counts["large"]++
			case err != nil && (IsBinderError(err) || strings.Contains(err.Error(), "Conversion error")):
				counts["invalid"]++
			case err != nil:
				t.Fatalf("by %s: %s: %v", g.keys, sql, err)
			case !slices.Equal(inOrder(whole), inOrder(parted)):
				t.Errorf("seed %d, by %s: %s:\nparts: %q\nwant:  %q", seed, g.keys, sql, inOrder(parted), inOrder(whole))
			case len(whole) == 0:
				counts["empty"]++
			default:
				counts["compared"]++
			}
		}
	}
	t.Logf("%d rounds: %v", rounds, counts)
	if total := rounds * statements; counts["compared"] < total/5 || counts["refused"] < total/20 {
		t.Errorf("the test is useless: of %d statements, %v", total, counts)
	}
}

// generator writes random statements. Most of them are per key.
type generator struct {
	d       *keyedData
	keys    string // entry of keyColumns
	aliases int
	tables  []rowSource // common table expressions
	with    []string
}

// rowSource is a table or a join in a FROM clause.
type rowSource struct {
	sql     string
	columns []string // qualified names
	keys    []string // some of columns: mostly, but not always, the key columns
	where   []string // conditions for WHERE
	isJoin  bool
}

func (g *generator) chance(percent int) bool { return g.d.random.IntN(100) < percent }

func (g *generator) pick(list ...string) string { return list[g.d.random.IntN(len(list))] }

func (g *generator) statement() string {
	for range g.d.random.IntN(3) {
		query, columns, keys := g.query(1)
		name := g.alias()
		g.with = append(g.with, name+" AS ("+query+")")
		g.tables = append(g.tables, rowSource{sql: name, columns: columns, keys: keys})
	}
	query, _, _ := g.query(2)
	if len(g.with) > 0 {
		query = "WITH " + strings.Join(g.with, ", ") + " " + query
	}
	return query
}

func (g *generator) alias() string {
	g.aliases++
	return fmt.Sprint("a", g.aliases)
}

func qualify(alias string, names []string) (qualified []string) {
	for _, name := range names {
		qualified = append(qualified, alias+"."+name)
	}
	return qualified
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// text returns an expression for a column's text, which is the same for both zeros: DuckDB can choose either of them for
// a group.
func text(column string) string { return "replace(" + column + "::VARCHAR, '-0.0', '0.0')" }

func (g *generator) table(depth int) rowSource {
	alias := g.alias()
	switch {
	case depth > 0 && g.chance(35):
		query, columns, keys := g.query(depth - 1)
		return rowSource{sql: "(" + query + ") AS " + alias, columns: qualify(alias, columns), keys: qualify(alias, keys)}
	case len(g.tables) > 0 && g.chance(40):
		table := g.tables[g.d.random.IntN(len(g.tables))]
		return rowSource{sql: table.sql + " AS " + alias, columns: qualify(alias, table.columns), keys: qualify(alias, table.keys)}
	}
	input := keyedInputs(g.keys, "l", "r", "m")[g.d.random.IntN(3)]
	source := rowSource{sql: input.Name + " AS " + alias, columns: qualify(alias, input.Columns), keys: qualify(alias, input.By)}
	if g.chance(15) {
		number := g.alias()
		source.sql += g.pick(" JOIN ", " LEFT JOIN ") + "(VALUES (1, 'x'), (2, 'y'), (2, 'z')) AS " + number + "(n, t) ON " + text(g.pick(source.columns...)) + " = n::VARCHAR"
		source.isJoin = true
		source.columns = append(source.columns, number+".n", number+".t")
	}
	return source
}

func (g *generator) join(left, right rowSource) rowSource {
	kind := g.pick("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN", "ASOF JOIN", "ASOF LEFT JOIN", "CROSS JOIN")
	j := rowSource{isJoin: true, columns: slices.Concat(left.columns, right.columns), keys: left.keys, where: slices.Concat(left.where, right.where)}
	switch {
	case kind == "SEMI JOIN" || kind == "ANTI JOIN":
		j.columns = left.columns
	case kind == "RIGHT JOIN" && g.chance(90) || kind == "JOIN" && g.chance(40):
		j.keys = right.keys
	}
	isAsOf := strings.HasPrefix(kind, "ASOF")
	base := func(s rowSource) bool {
		return !s.isJoin && keyedTables[strings.Split(s.sql, " AS ")[0]] != ""
	}
	if isAsOf && !(base(left) && base(right)) { // otherwise, several rows can be the last
		kind, isAsOf = "JOIN", false
	}
	var conditions, using []string
	for i := range min(len(left.keys), len(right.keys)) {
		l, r := left.keys[i], right.keys[i]
		if lastPart(l) == lastPart(r) {
			using = append(using, lastPart(l))
		}
		if g.chance(6) {
			r = g.pick(right.columns...)
		}
		if g.chance(30) {
			l, r = r, l
		}
		equals := " = "
		if g.chance(25) && (!isAsOf || g.chance(10)) {
			equals = " IS NOT DISTINCT FROM "
		}
		conditions = append(conditions, l+equals+r)
	}
	if right.isJoin {
		right.sql = "(" + right.sql + ")"
	}
	switch {
	case isAsOf:
		l, r := strings.Split(left.columns[0], ".")[0], strings.Split(right.columns[0], ".")[0]
		if len(using) == len(left.keys) && g.chance(30) {
			j.sql = left.sql + " " + kind + " " + right.sql + " USING (" + strings.Join(using, ", ") + ", ts)"
			return j
		}
		if g.chance(30) { // of base tables, so each has these columns
			conditions = append(conditions, fmt.Sprintf(g.pick("%s.v = %s.v", "%s.v IN (%s.v, 3)", "(%[1]s.v = %[2]s.v OR %[1]s.v IS NULL)", "%s.v > %s.v - %[1]s.v", "%s.v <> %s.k"), l, r))
		}
		conditions = append(conditions, fmt.Sprintf(g.pick("%s.ts >= %s.ts", "%s.ts > %s.ts", "%s.ts <= %s.ts", "%s.ts < %s.ts", "%[2]s.ts < %[1]s.ts + %[1]s.v", "NOT (%s.ts < %s.ts)"), l, r))
		g.d.random.Shuffle(len(conditions), func(a, b int) { conditions[a], conditions[b] = conditions[b], conditions[a] })
	case len(using) == len(left.keys) && kind != "CROSS JOIN" && g.chance(50):
		j.sql = left.sql + " " + kind + " " + right.sql + " USING (" + strings.Join(using, ", ") + ")"
		if g.chance(80) {
			j.keys = using
		}
		return j
	case g.chance(20):
		conditions = append(conditions, text(g.pick(left.columns...))+" <= "+text(g.pick(right.columns...)))
	}
	if g.chance(5) {
		conditions = conditions[1:]
	}
	if kind == "CROSS JOIN" || len(conditions) == 0 {
		j.sql, j.where = left.sql+" CROSS JOIN "+right.sql, append(j.where, conditions...)
		return j
	}
	j.sql = left.sql + " " + kind + " " + right.sql + " ON " + strings.Join(conditions, " AND ")
	return j
}

// query returns a query, and the names of its columns and keys.
func (g *generator) query(depth int) (sql string, columns, keys []string) {
	if depth > 0 && g.chance(15) {
		return g.setOperation(depth - 1)
	}
	from := g.table(depth)
	for range g.d.random.IntN(3) {
		if g.chance(50) {
			from = g.join(from, g.table(depth))
		} else {
			from = g.join(g.table(depth), from)
		}
	}
	return g.selection(from)
}

func (g *generator) selection(from rowSource) (sql string, columns, keys []string) {
	var items []string
	add := func(expression, alias string) {
		name := cmp.Or(alias, lastPart(expression))
		if alias != "" {
			expression += " AS " + alias
		}
		items = append(items, expression)
		if alias != "" || !strings.Contains(expression, "(") {
			columns = append(columns, name)
		}
	}
	by := slices.Clone(from.keys)
	if g.chance(5) {
		by[0] = g.pick(from.columns...)
	}
	partition := strings.Join(by, ", ")
	where := ""
	if g.chance(20) {
		from.where = append(from.where, g.condition(g.pick(from.columns...)))
	}
	if conditions := from.where; len(conditions) > 0 {
		where = " WHERE " + strings.Join(conditions, " AND ")
	}
	rest := " FROM " + from.sql + where
	shape := g.pick("plain", "plain", "star", "group", "group", "window", "distinct", "on")
	if shape == "star" {
		for _, column := range from.columns {
			columns = append(columns, lastPart(column))
		}
		for _, key := range from.keys {
			keys = append(keys, lastPart(key))
		}
		return "SELECT " + g.pick("*", "*", "DISTINCT *", "* EXCLUDE (v)", "* REPLACE (1 AS v)", "* RENAME (v AS k)", strings.Split(from.columns[0], ".")[0]+".*") + rest, columns, keys
	}
	for _, key := range from.keys {
		alias := g.pick("", "", "", "k", "q"+fmt.Sprint(len(keys)))
		add(key, alias)
		keys = append(keys, columns[len(columns)-1])
	}
	groups := []string{partition, partition, "ALL"}
	for i := range items {
		groups[1] = strings.Replace(groups[1], by[i], fmt.Sprint(i+1), 1)
	}
	for range g.d.random.IntN(3) {
		expression := g.pick(from.columns...)
		switch shape {
		case "group":
			expression = g.pick("count(*)", "min(%s)", "max(%s)", "count(DISTINCT %s)", "list(%s ORDER BY %[1]s)", "list(%s ORDER BY %[1]s DESC)[1:2]", "max(%s, 2)", "min(%s, 3)",
				"arg_max(%s, %[1]s)", "quantile_disc(%s, 0.5)", "histogram(%s)", "list_sort(list(DISTINCT %s))", "sum(%s)", "count(*) FILTER ("+g.condition(expression)+")", "sum(count(*)) OVER (PARTITION BY "+partition+")")
			expression = format(expression, g.pick(from.columns...))
		case "window":
			over := " OVER (PARTITION BY " + partition
			order := " ORDER BY " + expression + g.pick("", " DESC", " NULLS FIRST")
			expression = format(g.pick("count(*)"+over+")", "rank()"+over+order+")", "max(%s)"+over+order+")", "min(%s)"+over+")", "count(%s)"+over+order+")", "count(DISTINCT %s)"+over+")",
				"dense_rank()"+over+order+")", "count(*)"+over+order+" RANGE UNBOUNDED PRECEDING)", "percent_rank()"+over+order+")"), g.pick(from.columns...))
		}
		add(expression, g.pick("v", "w", "e", "k", ""))
	}
	list := strings.Join(items, ", ")
	switch shape {
	case "group":
		rest += " GROUP BY " + g.pick(groups...)
		if g.chance(20) {
			rest += " HAVING count(*) > 1"
		}
	case "window":
		if g.chance(30) {
			rest += " QUALIFY count(*) OVER (PARTITION BY " + partition + ") > 1"
		}
	case "distinct":
		list = "DISTINCT " + list
	case "on":
		return "SELECT * FROM (SELECT DISTINCT ON (" + g.pick(partition, strings.Join(keys, ", ")) + ") " + list + rest + " ORDER BY ALL)", columns, keys
	}
	return "SELECT " + list + rest, columns, keys
}

// format replaces %s in an expression by a column.
func format(expression, column string) string {
	if !strings.Contains(expression, "%") {
		return expression
	}
	return fmt.Sprintf(expression, column)
}

// condition returns a condition for a column of any type.
func (g *generator) condition(column string) string {
	var list []string
	for range 1 + g.d.random.IntN(12) { // DuckDB joins with a long list
		list = append(list, g.pick("'0'", "'1'", "'2.25'", "'nan'", "'a'", "'5'", "'17'", "'0.5'", "NULL"))
	}
	return g.pick(column+" IS NULL", column+" IS NOT DISTINCT FROM "+column, text(column)+g.pick(" IN (", " NOT IN (")+strings.Join(list, ", ")+")", text(column)+" >= '1'")
}

func (g *generator) setOperation(depth int) (sql string, columns, keys []string) {
	for i := range 2 + g.d.random.IntN(2) {
		if i > 0 {
			sql += " " + g.pick("UNION ALL", "UNION ALL", "UNION", "EXCEPT", "INTERSECT ALL", "UNION ALL BY NAME") + " "
		}
		from := g.table(depth)
		sql += "SELECT " + strings.Join(from.keys, ", ") + ", " + text(g.pick(from.columns...)) + " AS text FROM " + from.sql
		if i == 0 {
			for _, key := range from.keys {
				keys = append(keys, lastPart(key))
			}
		}
	}
	return sql, append(slices.Clone(keys), "text"), keys
}
