package filter

import (
	"fmt"
	"strings"
)

const (
	maxText  = 1 << 20 // maximum length of an expression, in bytes
	maxDepth = 100     // maximum nesting depth of parentheses and not
)

type parser struct {
	text  string
	token token // next token
	after int   // offset after the next token
	depth int
	err   error // the first error; after it, the next token is always the end
}

// Parse parses an expression. Its error is a [*SyntaxError].
func Parse(text string) (*Expr, error) {
	if len(text) > maxText {
		return nil, &SyntaxError{maxText, fmt.Sprintf("the expression has %d bytes: the limit is %d", len(text), maxText)}
	}
	p := &parser{text: text}
	p.advance()
	root := p.expression()
	if p.token.kind != tokenEnd {
		p.failExpected(`"and", "or" or the end`)
	}
	if p.err != nil {
		return nil, p.err
	}
	return &Expr{text: text, root: root}, nil
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
	p.token = token{offset: len(p.text)}
}

func (p *parser) advance() {
	if p.err != nil {
		return
	}
	var err error
	if p.token, p.after, err = next(p.text, p.after); err != nil {
		p.fail(err)
	}
}

// failExpected records the error that the next token is not the expected one.
func (p *parser) failExpected(expected string) {
	found := "the end"
	if p.token.kind != tokenEnd {
		found = fmt.Sprintf("%.40q", p.text[p.token.offset:p.after])
	}
	p.fail(&SyntaxError{p.token.offset, "expected " + expected + ", found " + found})
}

// skipWord skips the next token if it is the keyword or sign w, and reports whether it did.
func (p *parser) skipWord(w string) bool {
	found := (p.token.kind == tokenName || p.token.kind == tokenSign) && strings.EqualFold(p.token.text, w)
	if found {
		p.advance()
	}
	return found
}

func (p *parser) expression() *node {
	return p.chain("or", opOr, func() *node { return p.chain("and", opAnd, p.factor) })
}

// chain parses one or more parts, separated by a keyword, as a single node.
func (p *parser) chain(keyword string, op operator, part func() *node) *node {
	n := &node{op: op, offset: p.token.offset, parts: []*node{part()}}
	for p.skipWord(keyword) {
		n.parts = append(n.parts, part())
	}
	if len(n.parts) == 1 {
		return n.parts[0]
	}
	return n
}

// factor parses an expression in parentheses, a factor after not, or a comparison.
func (p *parser) factor() *node {
	n := &node{op: opNot, offset: p.token.offset}
	if p.depth++; p.depth > maxDepth {
		p.fail(&SyntaxError{p.token.offset, fmt.Sprintf("parentheses and not are nested more than %d levels deep", maxDepth)})
	}
	defer func() { p.depth-- }()
	switch {
	case p.skipWord("not"):
		n.parts = []*node{p.factor()}
		return n
	case p.skipWord("("):
		n := p.expression()
		if !p.skipWord(")") {
			p.failExpected(`")"`)
		}
		return n
	}
	return p.comparison()
}

var (
	comparisons = map[string]operator{"=": opEq, "==": opEq, "!=": opNe, "<>": opNe, "<": opLt, "<=": opLe, ">": opGt, ">=": opGe}
	mirror      = map[operator]operator{opEq: opEq, opNe: opNe, opLt: opGt, opLe: opGe, opGt: opLt, opGe: opLe}
	reserved    = map[string]bool{"and": true, "or": true, "not": true, "in": true, "is": true, "null": true}
)

func (p *parser) comparison() *node {
	n := &node{offset: p.token.offset}
	if p.token.kind == tokenLiteral { // for example 100 < price
		n.values = []literal{p.literal()}
		n.op = mirror[p.comparisonSign()]
		n.column = p.column()
		return n
	}
	n.column = p.column()
	if p.skipWord("is") {
		n.op = opNull
		not := p.skipWord("not")
		if !p.skipWord("null") {
			p.failExpected("null")
		}
		return negateIf(not, n)
	}
	not := p.skipWord("not")
	switch {
	case p.skipWord("in"):
		n.op = opIn
		p.list(n)
	case p.skipWord("like"):
		n.op, n.values = opLike, []literal{p.quoted()}
		if p.skipWord("escape") {
			n.values = append(n.values, p.quoted())
		}
	case p.skipWord("between"):
		low := p.literal()
		if !p.skipWord("and") {
			p.failExpected("and")
		}
		n = between(n.column, low, p.literal(), n.offset)
	case not:
		p.failExpected("in, like or between")
	default:
		n.op = p.comparisonSign()
		isName := p.token.kind == tokenName && !reserved[strings.ToLower(p.token.text)]
		if n.isColumn = isName || p.token.kind == tokenQuoted; n.isColumn {
			n.other = p.column()
		} else {
			n.values = []literal{p.literal()}
		}
	}
	return negateIf(not, n)
}

func (p *parser) comparisonSign() operator {
	op, ok := comparisons[p.token.text]
	if p.token.kind != tokenSign || !ok {
		p.failExpected("a comparison: =, !=, <, <=, >, >=, [not] in, [not] like, [not] between, is [not] null")
	}
	p.advance()
	return op
}

func (p *parser) column() string {
	name := p.token.text
	if p.token.kind != tokenQuoted && (p.token.kind != tokenName || reserved[strings.ToLower(name)]) {
		p.failExpected("a column name (in double quotes unless it is a plain word)")
	}
	p.advance()
	return name
}

func (p *parser) literal() literal {
	value := p.token.value
	switch {
	case p.token.kind == tokenLiteral:
	case p.token.kind == tokenName && strings.EqualFold(p.token.text, "null"):
		p.fail(&SyntaxError{p.token.offset, "a comparison with null is never true: use is null or is not null"})
	default:
		p.failExpected("a number, true, false, or text in single quotes")
	}
	p.advance()
	return value
}

// quoted parses text in single quotes.
func (p *parser) quoted() literal {
	if p.token.kind != tokenLiteral || p.token.value.kind != literalText {
		p.failExpected("text in single quotes")
	}
	return p.literal()
}

// between returns a node that tests whether a column is from low to high.
func between(column string, low, high literal, offset int) *node {
	part := func(op operator, l literal) *node {
		return &node{op: op, column: column, values: []literal{l}, offset: offset}
	}
	return &node{op: opAnd, parts: []*node{part(opGe, low), part(opLe, high)}, offset: offset}
}

// negateIf returns the negation of n if not is true, and otherwise n.
func negateIf(not bool, n *node) *node {
	if not {
		return &node{op: opNot, parts: []*node{n}, offset: n.offset}
	}
	return n
}

// list parses the list of values after in.
func (p *parser) list(n *node) {
	for sep := "("; p.err == nil; sep = "," {
		if !p.skipWord(sep) {
			p.failExpected(fmt.Sprintf("%q", sep))
			return
		}
		n.values = append(n.values, p.literal())
		if p.skipWord(")") {
			return
		}
	}
}
