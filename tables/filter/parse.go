package filter

import (
	"fmt"
	"strings"
)

const (
	maxText  = 1 << 20 // maximum length of an expression, in bytes
	maxDepth = 100     // maximum nesting depth of parentheses and "not"
)

type parser struct {
	text       string
	token      token // next token
	nextOffset int   // offset after the next token
	depth      int
	err        error // the first error; after an error, token is always tokenEnd
}

// Parse parses an expression. Its error is a [*SyntaxError].
func Parse(text string) (*Expr, error) {
	if len(text) > maxText {
		return nil, &SyntaxError{maxText, fmt.Sprintf("the expression has %d bytes: the limit is %d", len(text), maxText)}
	}
	p := &parser{text: text}
	p.advance()
	root := p.parseExpression()
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
	if p.token, p.nextOffset, err = nextToken(p.text, p.nextOffset); err != nil {
		p.fail(err)
	}
}

// failExpected records an error for the next token, which is not the expected token.
func (p *parser) failExpected(expected string) {
	found := "the end"
	if p.token.kind != tokenEnd {
		found = fmt.Sprintf("%.40q", p.text[p.token.offset:p.nextOffset])
	}
	p.fail(&SyntaxError{p.token.offset, "expected " + expected + ", found " + found})
}

// skip skips the next token if it is the keyword or sign w, and reports whether it is.
func (p *parser) skip(w string) bool {
	found := (p.token.kind == tokenName || p.token.kind == tokenSign) && strings.EqualFold(p.token.text, w)
	if found {
		p.advance()
	}
	return found
}

func (p *parser) parseExpression() *node {
	return p.parseChain("or", opOr, func() *node { return p.parseChain("and", opAnd, p.parseFactor) })
}

// parseChain parses one or more operands, separated by a keyword, as a single node. part parses one operand.
func (p *parser) parseChain(keyword string, op operator, part func() *node) *node {
	n := &node{op: op, offset: p.token.offset, parts: []*node{part()}}
	for p.skip(keyword) {
		n.parts = append(n.parts, part())
	}
	if len(n.parts) == 1 {
		return n.parts[0]
	}
	return n
}

// parseFactor parses "not" and another factor, an expression in parentheses, or a comparison.
func (p *parser) parseFactor() *node {
	n := &node{op: opNot, offset: p.token.offset}
	p.depth++
	if p.depth > maxDepth {
		p.fail(&SyntaxError{p.token.offset, fmt.Sprintf("parentheses and not are nested more than %d levels deep", maxDepth)})
	}
	defer func() { p.depth-- }()
	switch {
	case p.skip("not"):
		n.parts = []*node{p.parseFactor()}
		return n
	case p.skip("("):
		n := p.parseExpression()
		if !p.skip(")") {
			p.failExpected(`")"`)
		}
		return n
	}
	return p.parseComparison()
}

var (
	comparisons = map[string]operator{"=": opEq, "==": opEq, "!=": opNe, "<>": opNe, "<": opLt, "<=": opLe, ">": opGt, ">=": opGe}
	mirror      = map[operator]operator{opEq: opEq, opNe: opNe, opLt: opGt, opLe: opGe, opGt: opLt, opGe: opLe}
	reserved    = map[string]bool{"and": true, "or": true, "not": true, "in": true, "is": true, "null": true}
)

func (p *parser) parseComparison() *node {
	n := &node{offset: p.token.offset}
	if p.token.kind == tokenLiteral { // for example 100 < price
		n.values = []literal{p.parseLiteral()}
		n.op = mirror[p.parseSign()]
		n.column = p.parseColumn()
		return n
	}
	n.column = p.parseColumn()
	if p.skip("is") {
		n.op = opNull
		isNegated := p.skip("not")
		if !p.skip("null") {
			p.failExpected("null")
		}
		return negateIf(isNegated, n)
	}
	isNegated := p.skip("not")
	switch {
	case p.skip("in"):
		n.op = opIn
		p.parseList(n)
	case p.skip("like"):
		n.op, n.values = opLike, []literal{p.parseQuoted()}
		if p.skip("escape") {
			n.values = append(n.values, p.parseQuoted())
		}
	case p.skip("between"):
		low := p.parseLiteral()
		if !p.skip("and") {
			p.failExpected("and")
		}
		n = between(n.column, low, p.parseLiteral(), n.offset)
	case isNegated:
		p.failExpected("in, like or between")
	default:
		n.op = p.parseSign()
		isName := p.token.kind == tokenName && !reserved[strings.ToLower(p.token.text)]
		n.isColumn = isName || p.token.kind == tokenQuoted
		if n.isColumn {
			n.other = p.parseColumn()
		} else {
			n.values = []literal{p.parseLiteral()}
		}
	}
	return negateIf(isNegated, n)
}

func (p *parser) parseSign() operator {
	op, ok := comparisons[p.token.text]
	if p.token.kind != tokenSign || !ok {
		p.failExpected("a comparison: =, !=, <, <=, >, >=, [not] in, [not] like, [not] between, is [not] null")
	}
	p.advance()
	return op
}

func (p *parser) parseColumn() string {
	name := p.token.text
	if p.token.kind != tokenQuoted && (p.token.kind != tokenName || reserved[strings.ToLower(name)]) {
		p.failExpected("a column name (in double quotes unless it is a plain word)")
	}
	p.advance()
	return name
}

func (p *parser) parseLiteral() literal {
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

func (p *parser) parseQuoted() literal {
	if p.token.kind != tokenLiteral || p.token.value.kind != literalText {
		p.failExpected("text in single quotes")
	}
	return p.parseLiteral()
}

// between returns a node that tests whether a column is at least low and at most high.
func between(column string, low, high literal, offset int) *node {
	part := func(op operator, l literal) *node {
		return &node{op: op, column: column, values: []literal{l}, offset: offset}
	}
	return &node{op: opAnd, parts: []*node{part(opGe, low), part(opLe, high)}, offset: offset}
}

func negateIf(negate bool, n *node) *node {
	if negate {
		return &node{op: opNot, parts: []*node{n}, offset: n.offset}
	}
	return n
}

// parseList parses the list of values after the keyword "in" into n.values.
func (p *parser) parseList(n *node) {
	for sep := "("; p.err == nil; sep = "," {
		if !p.skip(sep) {
			p.failExpected(fmt.Sprintf("%q", sep))
			return
		}
		n.values = append(n.values, p.parseLiteral())
		if p.skip(")") {
			return
		}
	}
}
