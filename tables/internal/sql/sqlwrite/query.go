package sqlwrite

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Column is a column of the table. If Type is "", its values are not cast.
type Column struct{ Name, Type string }

// Names of columns that identify a row of the table. In a change's query, the table has them besides its own columns.
// FileColumn is the index of the file, and RowColumn the number of the row in the file; both count from 0. See
// tables.FileColumn for tables that are not read file by file.
const (
	FileColumn = "partd file"
	RowColumn  = "partd row"
)

// TargetSchema is the schema of the table in a change's query. Parse refuses statements that name it.
const TargetSchema = "partd target"

const (
	actionColumn = "partd action"
	sourceTable  = "partd source" // a MERGE's source, if the query uses it twice
)

// IsReserved reports whether a name has a special meaning in a change's query, so that tables in the query must not
// have a column with this name. Parse refuses UPDATE, DELETE and MERGE statements that contain the name in quotes.
func IsReserved(name string) bool {
	return slices.ContainsFunc([]string{FileColumn, RowColumn, actionColumn, sourceTable}, func(s string) bool { return strings.EqualFold(s, name) })
}

// cast returns an SQL expression for a value of the column. The line break ends a comment at the end of expression.
func (c Column) cast(expression string) string {
	if expression == "" {
		expression = "NULL"
	}
	if c.Type == "" {
		return "(" + expression + "\n)"
	}
	return "CAST((" + expression + "\n) AS " + c.Type + ")"
}

// column returns the index of the column with the given name. Like DuckDB, it ignores case.
func column(columns []Column, name string) (int, error) {
	i := slices.IndexFunc(columns, func(c Column) bool { return strings.EqualFold(c.Name, name) })
	if i < 0 {
		return 0, fmt.Errorf("the table has no column %q", name)
	}
	return i, nil
}

// distinct returns the indices of the columns with the given names. If a name occurs twice, it returns an error.
func distinct(columns []Column, names []string) (indices []int, err error) {
	for _, name := range names {
		i, err := column(columns, name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(indices, i) {
			return nil, fmt.Errorf("column %q occurs twice", name)
		}
		indices = append(indices, i)
	}
	return indices, nil
}

// InsertQuery returns a query for the rows of an INSERT into a table with the given columns. Each result column has the
// name and type of its column in the table. queryColumns are the names of the columns of st.Query. If st has VALUES,
// the query repeats them for each set of parameters; times is the number of sets, and each set has n parameters. See
// RepeatedName.
func (st *Statement) InsertQuery(columns []Column, queryColumns []string, n, times int) (string, error) {
	names := st.Columns
	if names == nil {
		for _, c := range columns {
			names = append(names, c.Name)
		}
	}
	if st.ByName {
		if st.Columns != nil {
			return "", errors.New("BY NAME does not fit a list of columns")
		}
		names = queryColumns
	}
	indices, err := distinct(columns, names)
	if err != nil {
		return "", err
	}
	checkCount := func(n int) error {
		if n != len(indices) {
			return fmt.Errorf("INSERT has %d columns but %d values", len(indices), n)
		}
		return nil
	}
	if st.Query != "" {
		if err := checkCount(len(queryColumns)); err != nil {
			return "", err
		}
		var results, aliases []string
		for k, i := range indices {
			alias := "c" + strconv.Itoa(k)
			aliases = append(aliases, alias)
			results = append(results, columns[i].cast(alias)+" AS "+sqltext.Name(columns[i].Name))
		}
		return "SELECT " + strings.Join(results, ", ") + " FROM (" + st.Query + "\n) AS q(" + strings.Join(aliases, ", ") + ")", nil
	}
	var rows, results []string
	for _, i := range indices {
		results = append(results, sqltext.Name(columns[i].Name))
	}
	for set := range times {
		for _, values := range st.Values {
			if len(values) == 0 { // DEFAULT VALUES
				values = make([]string, len(indices))
			}
			if err := checkCount(len(values)); err != nil {
				return "", err
			}
			row := make([]string, len(values))
			for k, v := range values {
				row[k] = columns[indices[k]].cast(v)
				if times > 1 {
					row[k], err = repeated(row[k], n, set)
					if err != nil {
						return "", err
					}
				}
			}
			rows = append(rows, "("+strings.Join(row, ", ")+")")
		}
	}
	return "SELECT * FROM (VALUES " + strings.Join(rows, ", ") + ") AS q(" + strings.Join(results, ", ") + ")", nil
}

// repeated returns expression with its parameters renamed for one of several sets of parameters; see RepeatedName.
func repeated(expression string, n, set int) (string, error) {
	return replaceParameters(expression, func(name string) string { return "$" + RepeatedName(name, n, set) })
}

// NullParameters returns a query with NULL in place of each parameter. Its columns have the same names.
func NullParameters(query string) string {
	query, _ = replaceParameters(query, func(string) string { return "NULL" }) // Parse has found no errors
	return query
}

// replaceParameters replaces the parameters in a part of a statement. replace receives the name of each.
func replaceParameters(text string, replace func(name string) string) (string, error) {
	tokens, err := lex(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	last := 0
	for _, t := range tokens {
		if t.kind == parameter {
			b.WriteString(text[last:t.start] + replace(text[t.start+1:t.end]))
			last = t.end
		}
	}
	return b.String() + text[last:], nil
}

// RepeatedName returns the name that a parameter has in set number set, if a query has several sets of parameters. name
// is its name in the statement. Set numbers count from 0. A set has n parameters.
func RepeatedName(name string, n, set int) string {
	if i, err := strconv.Atoi(name); err == nil {
		return strconv.Itoa(i + n*set)
	}
	return name + "_" + strconv.Itoa(set)
}

// Change is the query of a DELETE, UPDATE or MERGE. Its result has the columns FileColumn and RowColumn, which are null
// for a new row, the index of an action, and the new values. It is sorted by the first two columns.
type Change struct {
	SQL     string
	Values  []int          // for each new value, the index of its column in the table
	Actions []ChangeAction // the result's third column is an index of Actions
}

// ChangeAction says what happens to a row.
type ChangeAction struct {
	Kind string // Update, Delete or Insert
	// indices of the new values that the action uses; the other columns keep their values, or are null in a new row
	Values []int
}

// ChangeQuery returns the query of a DELETE, UPDATE or MERGE on a table with the given columns. target is the name of
// the table in the query. sourceColumns are the names of the columns of a MERGE's source; they are used only if
// NeedsSource returns true.
func (st *Statement) ChangeQuery(target string, columns []Column, sourceColumns []string) (*Change, error) {
	c := &Change{}
	expressions := make([]map[int]string, len(columns)) // for each column, its new values by the action's index
	for k := range st.Actions {
		a := &st.Actions[k]
		set, err := st.assignedValues(a, columns, sourceColumns)
		if err != nil {
			return nil, err
		}
		for i, value := range set {
			if value != nil && expressions[i] == nil {
				expressions[i] = map[int]string{}
			}
			if value != nil {
				expressions[i][k] = columns[i].cast(*value)
			}
		}
	}
	for i, e := range expressions {
		if e != nil {
			c.Values = append(c.Values, i)
		}
	}
	for k := range st.Actions {
		a := ChangeAction{Kind: st.Actions[k].Kind}
		for v, i := range c.Values {
			if _, ok := expressions[i][k]; ok {
				a.Values = append(a.Values, v)
			}
		}
		c.Actions = append(c.Actions, a)
	}
	if st.Verb == Delete {
		c.Actions = []ChangeAction{{Kind: Delete}}
	}
	if st.Verb == Merge {
		return c, st.addMergeSQL(c, target, columns, expressions)
	}
	c.SQL = st.with() + st.positionSQL() + "0 AS " + sqltext.Name(actionColumn)
	for v, i := range c.Values {
		c.SQL += ", " + expressions[i][0] + valueAlias(v)
	}
	c.SQL += " FROM " + target + " AS " + sqltext.Name(st.Alias)
	if st.From != "" {
		c.SQL += ", " + st.From + "\n"
	}
	if st.Where != "" {
		c.SQL += " WHERE (" + st.Where + "\n)"
	}
	c.SQL += byPosition
	return c, nil
}

// byPosition sorts the changes by file and row.
const byPosition = " ORDER BY 1, 2"

// positionSQL returns the start of a SELECT of a changed row's file and position.
func (st *Statement) positionSQL() string {
	return fmt.Sprintf("SELECT %[1]s.%[2]s, %[1]s.%[3]s, ", sqltext.Name(st.Alias), sqltext.Name(FileColumn), sqltext.Name(RowColumn))
}

func valueAlias(v int) string { return " AS " + sqltext.Name("partd value "+strconv.Itoa(v)) }

// addMergeSQL sets the SQL of the changes of a MERGE. expressions has, for each column, its new values by the action's
// index.
func (st *Statement) addMergeSQL(c *Change, target string, columns []Column, expressions []map[int]string) error {
	alias := sqltext.Name(st.Alias)
	with, source, err := st.source()
	if err != nil {
		return err
	}
	// The result of an action is a row: the action's index and the new values. DuckDB evaluates an expression again
	// wherever its alias is used, so conditions and values are parts of one expression.
	results := make([]string, len(st.Actions))
	for k, a := range st.Actions {
		results[k] = strconv.Itoa(k)
		if a.Kind == "NOTHING" {
			results[k] = "CAST(NULL AS INTEGER)"
		}
		for _, i := range c.Values {
			results[k] += ", " + orNull(expressions[i][k])
		}
	}
	result := func(cases string) string { return cases + " AS " + sqltext.Name(actionColumn) }
	var parts []string
	if matched, notMatched := st.caseOf(Matched, results), st.caseOf(NotMatched, results); matched+notMatched != "" {
		join := " JOIN "
		if notMatched != "" {
			join = " LEFT JOIN "
		}
		condition := " ON (" + st.On + "\n)"
		if st.Using != "" {
			condition = " USING " + st.Using
		}
		cases := fmt.Sprintf("CASE WHEN %s.%s IS NOT NULL THEN %s ELSE %s END", alias, sqltext.Name(RowColumn), orNull(matched), orNull(notMatched))
		parts = append(parts, st.positionSQL()+result(cases)+" FROM "+source+"\n"+join+target+" AS "+alias+condition)
	}
	if unmatched := st.caseOf(NotMatchedBySource, results); unmatched != "" {
		if st.Using != "" {
			return errors.New("WHEN NOT MATCHED BY SOURCE needs ON instead of USING")
		}
		parts = append(parts, st.positionSQL()+result(unmatched)+" FROM "+target+" AS "+alias+" WHERE NOT EXISTS (SELECT 1 FROM "+source+"\n WHERE ("+st.On+"\n))")
	}
	c.SQL = with + "SELECT " + sqltext.Name(FileColumn) + ", " + sqltext.Name(RowColumn) + ", " + sqltext.Name(actionColumn) + "[1]"
	for v, i := range c.Values {
		c.SQL += ", " + columns[i].cast(fmt.Sprintf("%s[%d]", sqltext.Name(actionColumn), v+2)) + valueAlias(v)
	}
	c.SQL += " FROM (" + strings.Join(parts, " UNION ALL ") + ") WHERE " + sqltext.Name(actionColumn) + "[1] IS NOT NULL" + byPosition
	return nil
}

// source returns the WITH clause and the source of a MERGE's query. A subquery that the query uses twice is evaluated
// only once, because a second evaluation could return other rows.
func (st *Statement) source() (with, source string, err error) {
	with, source = st.with(), st.From
	tokens, err := lex(source)
	isUsedTwice := slices.ContainsFunc(st.Actions, func(a Action) bool { return a.When == NotMatchedBySource })
	if err != nil || !isUsedTwice || tokens[0].upper != "(" {
		return with, source, err
	}
	if first := slices.IndexFunc(tokens, func(t token) bool { return t.upper != "(" }); !slices.Contains(queryWords, tokens[first].upper) { // a join
		return with, source, nil
	}
	if with == "" {
		with = "WITH "
	} else {
		with += ", "
	}
	end := tokens[slices.IndexFunc(tokens, func(t token) bool { return t.upper == ")" && t.depth == 0 })].end
	name := sqltext.Name(sourceTable)
	return with + name + " AS MATERIALIZED (SELECT * FROM " + source[:end] + "\n)\n", name + source[end:], nil
}

func (st *Statement) with() string {
	if st.With == "" {
		return ""
	}
	return st.With + "\n"
}

func orNull(expression string) string {
	if expression == "" {
		return "NULL"
	}
	return expression
}

// caseOf returns an expression for the result of the action on the rows that when selects, or "" if there is no such
// action. The first action whose condition is true applies.
func (st *Statement) caseOf(when When, results []string) string {
	cases := ""
	for k, a := range st.Actions {
		if a.When != when {
			continue
		}
		condition := "true"
		if a.If != "" {
			condition = "(" + a.If + "\n)"
		}
		cases += " WHEN " + condition + " THEN row(" + results[k] + ")"
	}
	if cases == "" {
		return ""
	}
	return "CASE" + cases + " END"
}

// NeedsSource reports whether ChangeQuery needs the columns of a MERGE's source.
func (st *Statement) NeedsSource() bool {
	return slices.ContainsFunc(st.Actions, func(a Action) bool { return a.ByName })
}

// SourceQuery returns a query with all columns of a MERGE's source.
func (st *Statement) SourceQuery() string { return st.with() + "SELECT * FROM " + st.From }

// assignedValues returns, for each column, the expression that an action assigns to it. "" means DEFAULT, and nil means
// that the action does not set the column.
func (st *Statement) assignedValues(a *Action, columns []Column, sourceColumns []string) ([]*string, error) {
	set := make([]*string, len(columns))
	if a.ByName {
		source, err := st.sourceName()
		if err != nil {
			return nil, err
		}
		indices, err := distinct(columns, sourceColumns)
		if err != nil {
			return nil, err
		}
		for k, i := range indices {
			set[i] = new(source + "." + sqltext.Name(sourceColumns[k]))
		}
		return set, nil
	}
	var names []string
	for k, s := range a.Set {
		name := s.Column
		if name == "" && len(a.Set) != len(columns) {
			return nil, fmt.Errorf("INSERT has %d columns but %d values", len(columns), len(a.Set))
		}
		if name == "" {
			name = columns[k].Name
		}
		names = append(names, name)
	}
	indices, err := distinct(columns, names)
	if err != nil {
		return nil, err
	}
	for k, i := range indices {
		set[i] = &a.Set[k].Value
	}
	return set, nil
}

// sourceName returns the name that expressions use for a MERGE's source.
func (st *Statement) sourceName() (string, error) {
	tokens, err := lex(st.From)
	if err != nil {
		return "", err
	}
	last := len(tokens) - 1
	for tokens[last].upper == ")" || tokens[last].depth > 0 { // s(a, b) names the source's columns
		last--
	}
	if tokens[last].upper == "(" {
		last--
	}
	if last < 0 || tokens[last].kind > quoted {
		return "", errors.New("name the source of the MERGE: USING (…) AS source")
	}
	return st.From[tokens[last].start:tokens[last].end], nil
}

// TypesQuery returns a query without rows whose columns are st.NewColumns.
func (st *Statement) TypesQuery() string {
	var columns []string
	for _, c := range st.NewColumns {
		columns = append(columns, c.cast("")+" AS "+sqltext.Name(c.Name))
	}
	return "SELECT " + strings.Join(columns, ", ") + " WHERE false"
}
