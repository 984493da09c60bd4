package sqlwrite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// parser reads the tokens of a statement.
type parser struct {
	sql    string
	tokens []token
	pos    int
}

// upper returns the word or symbol at index i, in upper case, or "".
func (p *parser) upper(i int) string {
	if i < 0 || i >= len(p.tokens) {
		return ""
	}
	return p.tokens[i].upper
}

func (p *parser) peek(n int) string { return p.upper(p.pos + n) }

func (p *parser) next() string {
	p.pos++
	return p.upper(p.pos - 1)
}

// accept reports whether the given words come next. If so, it skips them.
func (p *parser) accept(words ...string) bool {
	for i, w := range words {
		if p.peek(i) != w {
			return false
		}
	}
	p.pos += len(words)
	return true
}

func (p *parser) expect(words ...string) error {
	if !p.accept(words...) {
		return p.expected(strings.Join(words, " "))
	}
	return nil
}

func (p *parser) expected(what string) error {
	if p.pos >= len(p.tokens) {
		return sqltext.RefusedAt(p.sql, len(p.sql), "the statement ends where %s is expected", what)
	}
	t := p.tokens[p.pos]
	return sqltext.RefusedAt(p.sql, t.start, "%q comes where %s is expected", p.sql[t.start:t.end], what)
}

// wrap adds the position of token i to err.
func (p *parser) wrap(i int, err error) error {
	offset := len(p.sql)
	if i < len(p.tokens) {
		offset = p.tokens[i].start
	}
	if p.sql == "" { // RefusedAt knows no position without a statement
		return &sqltext.Error{Line: 1, Column: 1, Err: err}
	}
	return sqltext.RefusedAt(p.sql, offset, "%w", err)
}

// find returns the index of the first token in [start, end) that is one of the given words, or end if there is none. It
// ignores words in brackets or CASE, words after a dot, which are names, and FROM in IS DISTINCT FROM.
func (p *parser) find(start, end int, words ...string) int {
	for i := start; i < end; i++ {
		t := p.tokens[i]
		if t.depth == 0 && slices.Contains(words, t.upper) && p.upper(i-1) != "." && (t.upper != "FROM" || p.upper(i-1) != "DISTINCT") {
			return i
		}
	}
	return end
}

// text returns the statement's text for the tokens with indices in [start, end). It replaces each ? with $1, $2 and so
// on, counted from the start of the statement.
func (p *parser) text(start, end int) string {
	if start >= end {
		return ""
	}
	var b strings.Builder
	last := p.tokens[start].start
	for _, t := range p.tokens[start:end] {
		if t.kind == parameter && p.sql[t.start] == '?' {
			fmt.Fprintf(&b, "%s$%d", p.sql[last:t.start], t.questions+1)
			last = t.end
		}
	}
	return b.String() + p.sql[last:p.tokens[end-1].end]
}

// clause returns and skips the text up to index end. If the text is empty, it returns an error.
func (p *parser) clause(end int) (string, error) {
	if p.pos >= end {
		return "", p.expected("an expression")
	}
	s := p.text(p.pos, end)
	p.pos = end
	return s, nil
}

// name skips the next token and returns the name in it, without quotes.
func (p *parser) name() (string, error) {
	if p.pos < len(p.tokens) {
		t := p.tokens[p.pos]
		s := p.sql[t.start:t.end]
		switch t.kind {
		case quoted:
			p.pos++
			s = strings.ReplaceAll(s[1:len(s)-1], `""`, `"`)
			if s == "" {
				return "", p.wrap(p.pos-1, errors.New("a name is empty"))
			}
			return s, nil
		case word:
			if !slices.Contains(reservedWords, t.upper) {
				p.pos++
				return s, nil
			}
		}
	}
	return "", p.expected("a name")
}

// reservedWords lists words that can be names only in quotes. DuckDB reserves more words.
var reservedWords = []string{
	"AND", "AS", "BY", "CASE", "DEFAULT", "DO", "ELSE", "END", "FROM", "GROUP", "HAVING", "IN", "INTO", "IS", "LIMIT", "NOT", "NULL", "ON", "OR", "ORDER",
	"RETURNING", "SELECT", "SET", "TABLE", "THEN", "UNION", "USING", "VALUES", "WHEN", "WHERE", "WITH",
}

// list parses a list of names in brackets.
func (p *parser) list() (names []string, err error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		if p.accept(")") {
			return names, nil
		}
		if err := p.expect(","); err != nil {
			return nil, err
		}
	}
}

// close returns the index of the bracket that closes the bracket at index i.
func (p *parser) close(i int) int {
	for n := i + 1; n < len(p.tokens); n++ {
		if p.tokens[n].depth == p.tokens[i].depth {
			return n
		}
	}
	return len(p.tokens)
}

// target parses the name of the statement's table: table, bucket.table or partd.bucket.table.
func (p *parser) target(st *Statement) (err error) {
	var parts []string
	for {
		part, err := p.name()
		if err != nil {
			return err
		}
		parts = append(parts, part)
		if !p.accept(".") {
			break
		}
	}
	if len(parts) == 3 && strings.EqualFold(parts[0], "partd") {
		parts = parts[1:]
	}
	if len(parts) > 2 {
		return p.wrap(p.pos-1, errors.New(`the table must be "table", "bucket"."table" or partd."bucket"."table"`))
	}
	st.Table = parts[len(parts)-1]
	if len(parts) == 2 {
		st.Schema = parts[0]
	}
	return nil
}

// aliasedTarget is like target, but also parses an optional alias. Without AS, the words in end cannot be the alias.
func (p *parser) aliasedTarget(st *Statement, end ...string) (err error) {
	if err := p.target(st); err != nil {
		return err
	}
	st.Alias = st.Table
	hasAlias := p.accept("AS")
	if hasAlias || p.pos < len(p.tokens) && p.tokens[p.pos].kind <= quoted && !slices.Contains(end, p.peek(0)) {
		st.Alias, err = p.name()
	}
	return err
}

// with returns and skips the statement's WITH clause.
func (p *parser) with() (string, error) {
	start := p.pos
	if !p.accept("WITH") {
		return "", nil
	}
	for {
		as := p.find(p.pos, len(p.tokens), "AS")
		open := p.find(as, len(p.tokens), "(")
		if open == len(p.tokens) {
			return "", p.expected("a query in brackets after AS")
		}
		p.pos = p.close(open) + 1
		if !p.accept(",") {
			return p.text(start, p.pos), nil
		}
	}
}
