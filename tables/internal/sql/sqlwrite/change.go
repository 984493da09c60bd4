package sqlwrite

import (
	"errors"
	"fmt"
	"slices"
)

var queryWords = []string{"SELECT", "WITH", "FROM", "VALUES", "TABLE", "("}

func (p *parser) insert(st *Statement) (err error) {
	end := len(p.tokens)
	if conflict := p.find(p.pos, end, "CONFLICT"); p.peek(0) == "OR" || conflict < end && p.upper(conflict-1) == "ON" {
		return p.wrap(p.pos, errConflict)
	}
	if err := p.expect("INTO"); err != nil {
		return err
	}
	if err := p.aliasedTarget(st, append(queryWords, "BY", "DEFAULT")...); err != nil {
		return err
	}
	if p.peek(0) == "(" && !slices.Contains(queryWords, p.peek(1)) {
		st.Columns, err = p.list()
		if err != nil {
			return err
		}
	}
	st.ByName = p.accept("BY", "NAME")
	if !st.ByName {
		p.accept("BY", "POSITION")
	}
	if p.accept("DEFAULT", "VALUES") {
		st.Values = [][]string{{}}
		return nil
	}
	if !slices.Contains(queryWords, p.peek(0)) {
		return p.expected("VALUES or a query")
	}
	if !st.ByName && st.With == "" {
		if complete, err := p.values(st); complete || err != nil {
			return err
		}
	}
	if st.With != "" {
		st.With += " "
	}
	st.Query, err = p.clause(end)
	st.Query, st.With = st.With+st.Query, ""
	return err
}

// values parses VALUES and reports whether nothing follows it. If something follows, values skips nothing, because
// VALUES then belongs to a query.
func (p *parser) values(st *Statement) (complete bool, err error) {
	start := p.pos
	if p.accept("VALUES") {
		for p.peek(0) == "(" {
			end := p.close(p.pos)
			p.pos++
			row, err := p.items(end)
			if err != nil {
				return false, err
			}
			st.Values = append(st.Values, row)
			p.pos = end + 1
			if p.pos == len(p.tokens) {
				return true, nil
			}
			if !p.accept(",") {
				break
			}
		}
	}
	p.pos, st.Values = start, nil
	return false, nil
}

// items returns the comma-separated expressions up to index end, with "" for DEFAULT. There must be at least one, and
// a comma may follow the last one.
func (p *parser) items(end int) (items []string, err error) {
	for p.pos < end || items == nil {
		comma, depth := p.pos, p.tokens[p.pos].depth
		for comma < end && (p.tokens[comma].depth != depth || p.upper(comma) != ",") {
			comma++
		}
		if comma == p.pos {
			return nil, p.expected("an expression")
		}
		item := p.text(p.pos, comma)
		if comma == p.pos+1 && p.upper(p.pos) == "DEFAULT" {
			item = ""
		}
		items = append(items, item)
		p.pos = comma + 1
	}
	return items, nil
}

func (p *parser) delete(st *Statement) (err error) {
	if err := p.expect("FROM"); err != nil {
		return err
	}
	if err := p.aliasedTarget(st, "USING", "WHERE"); err != nil {
		return err
	}
	where := p.find(p.pos, len(p.tokens), "WHERE")
	if p.accept("USING") {
		st.From, err = p.from(where)
		if err != nil {
			return err
		}
	}
	return p.where(st)
}

// from returns and skips the list of tables up to index end. If another clause comes before index end, it returns an
// error.
func (p *parser) from(end int) (string, error) {
	clause := p.find(p.pos, end, "SELECT", "WHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "UNION", "EXCEPT", "INTERSECT", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR")
	if clause < end {
		return "", p.wrap(clause, fmt.Errorf("%s does not fit here: use a subquery", p.upper(clause)))
	}
	return p.clause(end)
}

// where parses an optional WHERE clause, which ends the statement.
func (p *parser) where(st *Statement) (err error) {
	if p.accept("WHERE") {
		st.Where, err = p.expression(len(p.tokens))
	}
	return err
}

// expression returns and skips the expression up to index end. It returns an error if the expression names several
// columns at once, such as by *, because the query has more columns than the table.
func (p *parser) expression(end int) (string, error) {
	for i := p.pos; i < end; i++ {
		last := p.upper(i - 1)
		switch p.upper(i) {
		case "(":
			// in a subquery, * means the columns of the subquery's tables
			if slices.Contains(queryWords[:len(queryWords)-1], p.upper(i+1)) {
				i = p.close(i)
			}
		case "*":
			if i == p.pos || last == "(" || last == "," || last == "." {
				return "", p.wrap(i, errors.New("* is not supported here: name the columns"))
			}
		case "COLUMNS", "#":
			if p.upper(i) == "#" || p.upper(i+1) == "(" {
				return "", p.wrap(i, errors.New("COLUMNS and #1 are not supported here: name the columns"))
			}
		}
	}
	return p.clause(end)
}

func (p *parser) update(st *Statement) (err error) {
	if err := p.aliasedTarget(st, "SET"); err != nil {
		return err
	}
	if err := p.expect("SET"); err != nil {
		return err
	}
	end := p.find(p.pos, len(p.tokens), "FROM", "WHERE")
	a := Action{Kind: Update}
	a.Set, err = p.assignments(end)
	if err != nil {
		return err
	}
	st.Actions = []Action{a}
	if p.accept("FROM") {
		st.From, err = p.from(p.find(p.pos, len(p.tokens), "WHERE"))
		if err != nil {
			return err
		}
	}
	return p.where(st)
}

// assignments parses column = expression, …, up to index end.
func (p *parser) assignments(end int) (set []Assignment, err error) {
	for {
		if p.peek(0) == "(" {
			return nil, p.wrap(p.pos, errors.New("assign each column separately: SET a = 1, b = 2"))
		}
		var a Assignment
		a.Column, err = p.name()
		if err != nil {
			return nil, err
		}
		if err := p.expect("="); err != nil {
			return nil, err
		}
		comma := p.find(p.pos, end, ",")
		if p.peek(0) == "DEFAULT" && comma == p.pos+1 {
			p.pos++
		} else {
			a.Value, err = p.expression(comma)
			if err != nil {
				return nil, err
			}
		}
		set = append(set, a)
		if comma == end {
			return set, nil
		}
		p.pos++
	}
}
