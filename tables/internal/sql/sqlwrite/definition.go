package sqlwrite

import (
	"fmt"
	"slices"
	"strings"
)

// definition parses the rest of CREATE, DROP or ALTER.
func (p *parser) definition(st *Statement, verb string) error {
	start := p.pos
	st.OrReplace = verb == "CREATE" && p.accept("OR", "REPLACE")
	object := p.next()
	switch {
	case object == "TABLE":
		st.Verb = verb + " TABLE"
	case object == "SCHEMA" && verb != "ALTER" && !st.OrReplace:
		st.Verb = verb + " SCHEMA"
	default:
		return p.refuseKind(start, verb)
	}
	if verb == "CREATE" {
		st.IfNotExists = p.accept("IF", "NOT", "EXISTS")
	} else {
		st.IfExists = p.accept("IF", "EXISTS")
	}
	if err := p.target(st); err != nil {
		return err
	}
	switch st.Verb {
	case CreateTable:
		return p.createTable(st)
	case AlterTable:
		return p.alter(st)
	case CreateBucket, DropBucket:
		if st.Schema != "" && !strings.EqualFold(st.Schema, "partd") {
			return p.expected("the name of a bucket")
		}
		st.Schema, st.Table = st.Table, ""
	}
	if st.Verb == DropTable || st.Verb == DropBucket {
		st.Cascade = p.accept("CASCADE")
		p.accept("RESTRICT")
	}
	return nil
}

// refuseKind returns the error for an object that is not stored, such as a view. start is the index of the first token
// after the verb.
func (p *parser) refuseKind(start int, verb string) error {
	for p.pos = start; p.accept("OR", "REPLACE") || p.accept("UNIQUE"); {
	}
	return p.wrap(start-1, fmt.Errorf("%s %s is not supported: only tables are stored", verb, strings.TrimSuffix(p.peek(0), "ORARY")))
}

func (p *parser) createTable(st *Statement) (err error) {
	if p.accept("AS") {
		st.Query, err = p.clause(len(p.tokens))
		return err
	}
	if err := p.expect("("); err != nil {
		return err
	}
	end := p.close(p.pos - 1)
	for {
		if slices.Contains(unsupportedWords, p.peek(0)) {
			return p.wrap(p.pos, errColumnConstraint)
		}
		c, err := p.columnDef(end)
		if err != nil {
			return err
		}
		st.NewColumns = append(st.NewColumns, c)
		if p.accept(")") {
			break
		}
		if err := p.expect(","); err != nil {
			return err
		}
	}
	return nil
}

// unsupportedWords lists the SQL keywords that can follow a column's type, or begin a table constraint in a column list.
var unsupportedWords = []string{"PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "REFERENCES", "CONSTRAINT", "NOT", "NULL", "DEFAULT", "GENERATED", "AS", "COLLATE", "USING", "COMPRESSION"}

// columnDef parses a column's name and its type, which ends before a comma or at index end.
func (p *parser) columnDef(end int) (c Column, err error) {
	c.Name, err = p.name()
	if err != nil {
		return c, err
	}
	c.Type, err = p.sqlType(end)
	return c, err
}

func (p *parser) sqlType(end int) (string, error) {
	depth, start := 0, p.pos
	if start < len(p.tokens) {
		depth = p.tokens[start].depth
	}
	for ; p.pos < end; p.pos++ {
		t := p.tokens[p.pos]
		switch {
		case t.depth == depth && t.upper == ",":
			return p.text(start, p.pos), nil
		case t.depth == depth && slices.Contains(unsupportedWords, t.upper):
			return "", p.wrap(p.pos, errColumnConstraint)
		case t.kind == parameter || t.kind == symbol && !strings.Contains("()[],", t.upper):
			return "", p.expected("a type")
		}
	}
	if start == p.pos {
		return "", p.expected("a type")
	}
	return p.text(start, p.pos), nil
}

// alter parses the action of an ALTER TABLE statement.
func (p *parser) alter(st *Statement) (err error) {
	if p.accept("RENAME", "TO") {
		st.NewName, err = p.name()
		return err
	}
	changes := map[string]string{"ADD": "add", "DROP": "drop", "RENAME": "rename", "ALTER": "widen"}
	st.Change = changes[p.next()]
	if st.Change == "" {
		p.pos--
		return p.expected("ADD, DROP, RENAME or ALTER")
	}
	if slices.Contains(unsupportedWords, p.peek(0)) {
		return p.wrap(p.pos, errColumnConstraint)
	}
	p.accept("COLUMN")
	st.IfColumn = st.Change == "add" && p.accept("IF", "NOT", "EXISTS") || st.Change == "drop" && p.accept("IF", "EXISTS")
	st.Column, err = p.name()
	if err != nil {
		return err
	}
	switch st.Change {
	case "rename":
		err = p.expect("TO")
		if err == nil {
			st.NewName, err = p.name()
		}
		return err
	case "widen":
		if p.peek(0) == "SET" && p.peek(1) != "DATA" || p.peek(0) == "DROP" {
			return p.wrap(p.pos, errColumnConstraint)
		}
		p.accept("SET", "DATA")
		err = p.expect("TYPE")
		if err != nil {
			return err
		}
	case "drop":
		return nil
	}
	st.NewColumns = []Column{{Name: st.Column}}
	st.NewColumns[0].Type, err = p.sqlType(len(p.tokens))
	return err
}
