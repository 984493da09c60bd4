package sqlwrite

import (
	"errors"
	"fmt"
	"slices"
)

// maxActions limits the actions of a MERGE, because each of them can name all columns of a wide table.
const maxActions = 100

func (p *parser) merge(st *Statement) (err error) {
	if err := p.expect("INTO"); err != nil {
		return err
	}
	if err := p.aliasedTarget(st, "USING"); err != nil {
		return err
	}
	if err := p.expect("USING"); err != nil {
		return err
	}
	condition := p.find(p.pos, len(p.tokens), "ON", "USING")
	if comma := p.find(p.pos, condition, ","); comma < condition {
		return p.wrap(comma, errors.New("the source of MERGE must be one table or one subquery"))
	}
	st.From, err = p.from(condition)
	if err != nil {
		return err
	}
	if p.accept("USING") {
		start := p.pos
		_, err = p.list()
		st.Using = p.text(start, p.pos)
	} else {
		err = p.expect("ON")
		if err == nil {
			st.On, err = p.expression(p.find(p.pos, len(p.tokens), "WHEN"))
		}
	}
	for err == nil && p.pos < len(p.tokens) {
		if len(st.Actions) == maxActions {
			return p.wrap(p.pos, fmt.Errorf("a MERGE can have at most %d actions", maxActions))
		}
		err = p.action(st)
	}
	if err == nil && len(st.Actions) == 0 {
		err = p.expected("WHEN")
	}
	return err
}

// action parses WHEN … THEN ….
func (p *parser) action(st *Statement) (err error) {
	var a Action
	start := p.pos
	switch {
	case p.accept("WHEN", "MATCHED"):
		a.When = Matched
	case p.accept("WHEN", "NOT", "MATCHED", "BY", "SOURCE"):
		a.When = NotMatchedBySource
	case p.accept("WHEN", "NOT", "MATCHED"):
		a.When = NotMatched
		p.accept("BY", "TARGET")
	default:
		return p.expected("WHEN MATCHED, WHEN NOT MATCHED or WHEN NOT MATCHED BY SOURCE")
	}
	if p.accept("AND") {
		from, then := p.pos, p.find(p.pos, len(p.tokens), "THEN")
		a.If, err = p.expression(then)
		if err != nil {
			return err
		}
		for i := from; i < then; i++ {
			if p.upper(i) == "(" && slices.Contains(queryWords[:len(queryWords)-1], p.upper(i+1)) {
				return p.wrap(i, errors.New("a condition after AND cannot have a subquery: compute its value in the source"))
			}
		}
	}
	if err := p.expect("THEN"); err != nil {
		return err
	}
	end := p.find(p.pos, len(p.tokens), "WHEN")
	switch {
	case p.accept("DO", "NOTHING"):
		a.Kind = "NOTHING"
	case p.accept("DELETE"):
		a.Kind = Delete
	case p.accept("UPDATE", "SET", "*"), p.accept("UPDATE", "BY", "NAME"):
		a.Kind, a.ByName = Update, true
	case p.accept("UPDATE", "SET"):
		a.Kind = Update
		a.Set, err = p.assignments(end)
		if err != nil {
			return err
		}
	case p.accept("INSERT", "*"), p.accept("INSERT", "BY", "NAME"):
		a.Kind, a.ByName = Insert, true
	case p.accept("INSERT"):
		a.Kind = Insert
		a.Set, err = p.mergeInsert()
		if err != nil {
			return err
		}
	default:
		return p.expected("UPDATE SET, INSERT, DELETE or DO NOTHING")
	}
	if p.pos != end {
		return p.expected("WHEN, or the end of the statement,")
	}
	switch {
	case (a.Kind == Insert) != (a.When == NotMatched) && a.Kind != "NOTHING":
		return p.wrap(start, fmt.Errorf("%s does not fit: INSERT is for WHEN NOT MATCHED, and UPDATE and DELETE are for the others", a.Kind))
	case a.ByName && a.When == NotMatchedBySource:
		return p.wrap(start, errors.New("there is no row of the source: write UPDATE SET column = value"))
	case slices.ContainsFunc(st.Actions, func(earlier Action) bool { return earlier.When == a.When && earlier.If == "" }):
		return p.wrap(start, errors.New("no row reaches this WHEN: an earlier one of the same kind has no condition"))
	}
	st.Actions = append(st.Actions, a)
	return nil
}

// mergeInsert parses the columns and values of an INSERT in a MERGE. Without a list of columns, their names are "". For
// DEFAULT VALUES, mergeInsert returns nil.
func (p *parser) mergeInsert() (set []Assignment, err error) {
	var columns []string
	if p.peek(0) == "(" {
		columns, err = p.list()
		if err != nil {
			return nil, err
		}
	}
	if p.accept("DEFAULT", "VALUES") {
		return nil, nil
	}
	if err := p.expect("VALUES"); err != nil {
		return nil, err
	}
	open, end := p.pos, p.close(p.pos)
	if err := p.expect("("); err != nil {
		return nil, err
	}
	if _, err := p.expression(end); err != nil { // check all values
		return nil, err
	}
	p.pos = open + 1
	values, err := p.items(end)
	if err != nil {
		return nil, err
	}
	if columns != nil && len(values) != len(columns) {
		return nil, p.wrap(open, fmt.Errorf("INSERT has %d columns but %d values", len(columns), len(values)))
	}
	for i, v := range values {
		a := Assignment{Value: v}
		if columns != nil {
			a.Column = columns[i]
		}
		set = append(set, a)
	}
	p.pos = end + 1
	return set, nil
}
