package where

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
	parts      bool  // parts of columns are allowed
	err        error // the first error; after an error, token is always tokenEnd
}

// Parse parses an expression without parts of columns. Its error is a [*SyntaxError].
func Parse(text string) (*Node, error) { return parse(text, false) }

// ParseWithParts is like Parse, but accepts parts of columns.
func ParseWithParts(text string) (*Node, error) { return parse(text, true) }

func parse(text string, parts bool) (*Node, error) {
	if len(text) > maxText {
		return nil, &SyntaxError{maxText, fmt.Sprintf("the expression has %d bytes: the limit is %d", len(text), maxText)}
	}
	p := &parser{text: text, parts: parts}
	p.advance()
	root := p.parseExpression()
	if p.token.kind != tokenEnd {
		p.failExpected(`"and", "or" or the end`)
	}
	if p.err != nil {
		return nil, p.err
	}
	return root, nil
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
	p.token, p.nextOffset, err = nextToken(p.text, p.nextOffset)
	if err != nil {
		p.fail(err)
	}
}

// failExpected records an error for the next token, which is not the expected token.
func (p *parser) failExpected(expected string) {
	actual := "the end"
	if p.token.kind != tokenEnd {
		actual = fmt.Sprintf("%.40q", p.text[p.token.offset:p.nextOffset])
	}
	p.fail(&SyntaxError{p.token.offset, "expected " + expected + ", found " + actual})
}

// skip reports whether the next token is the keyword or sign w. If it is, skip skips it.
func (p *parser) skip(w string) bool {
	matches := (p.token.kind == tokenName || p.token.kind == tokenSign) && strings.EqualFold(p.token.text, w)
	if matches {
		p.advance()
	}
	return matches
}

func (p *parser) parseExpression() *Node {
	return p.parseChain("or", Or, func() *Node { return p.parseChain("and", And, p.parseFactor) })
}

// parseChain parses one or more operands, separated by a keyword, as a single node. parseOne parses one operand.
func (p *parser) parseChain(keyword string, op Operator, parseOne func() *Node) *Node {
	n := &Node{Op: op, Offset: p.token.offset, Parts: []*Node{parseOne()}}
	for p.skip(keyword) {
		n.Parts = append(n.Parts, parseOne())
	}
	if len(n.Parts) == 1 {
		return n.Parts[0]
	}
	return n
}

// parseFactor parses "not" and another factor, an expression in parentheses, or a comparison.
func (p *parser) parseFactor() *Node {
	n := &Node{Op: Not, Offset: p.token.offset}
	p.depth++
	if p.depth > maxDepth {
		p.fail(&SyntaxError{p.token.offset, fmt.Sprintf("parentheses and not are nested more than %d levels deep", maxDepth)})
	}
	defer func() { p.depth-- }()
	switch {
	case p.skip("not"):
		n.Parts = []*Node{p.parseFactor()}
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
	Comparisons = map[string]Operator{"=": Eq, "==": Eq, "!=": Ne, "<>": Ne, "<": Lt, "<=": Le, ">": Gt, ">=": Ge}
	mirror      = map[Operator]Operator{Eq: Eq, Ne: Ne, Lt: Gt, Le: Ge, Gt: Lt, Ge: Le}
	reserved    = map[string]bool{"and": true, "or": true, "not": true, "in": true, "is": true, "null": true}
)

func (p *parser) parseComparison() *Node {
	n := &Node{Offset: p.token.offset}
	if p.token.kind == tokenLiteral { // for example 100 < price
		n.Values = []Literal{p.parseLiteral()}
		n.Op = mirror[p.parseSign()]
		n.Column, n.Part = p.parseOperand()
		return n
	}
	n.Column, n.Part = p.parseOperand()
	if p.skip("is") {
		n.Op = Null
		isNegated := p.skip("not")
		if !p.skip("null") {
			p.failExpected("null")
		}
		return negateIf(isNegated, n)
	}
	isNegated := p.skip("not")
	switch {
	case p.skip("in"):
		n.Op = In
		p.parseList(n)
	case p.skip("like"):
		n.Op, n.Values = Like, []Literal{p.parseQuoted()}
		if p.skip("escape") {
			n.Values = append(n.Values, p.parseQuoted())
		}
	case p.skip("between"):
		low := p.parseLiteral()
		if !p.skip("and") {
			p.failExpected("and")
		}
		n = between(*n, low, p.parseLiteral())
	case isNegated:
		p.failExpected("in, like or between")
	default:
		n.Op = p.parseSign()
		isName := p.token.kind == tokenName && !reserved[strings.ToLower(p.token.text)]
		n.IsColumn = isName || p.token.kind == tokenQuoted
		if n.IsColumn {
			n.Other, n.OtherPart = p.parseOperand()
		} else {
			n.Values = []Literal{p.parseLiteral()}
		}
	}
	return negateIf(isNegated, n)
}

func (p *parser) parseSign() Operator {
	op, ok := Comparisons[p.token.text]
	if p.token.kind != tokenSign || !ok {
		place := ""
		if p.token.kind == tokenName {
			place = " (a column name with spaces needs double quotes)"
		}
		p.failExpected("a comparison" + place + ": =, !=, <, <=, >, >=, [not] in, [not] like, [not] between, is [not] null")
	}
	p.advance()
	return op
}

// parseOperand parses a column or a part of one.
func (p *parser) parseOperand() (column string, part *Part) {
	if !p.startsPart() {
		return p.parseColumn(), nil
	}
	start := p.token
	if !p.parts {
		p.fail(&SyntaxError{start.offset, start.text + "(…) is possible only in partd's commands on files: compare the column " +
			"itself, as in t >= '2026-01-31' and t < '2026-02-01', or like 'a/%'"})
		return "", nil
	}
	part = &Part{}
	p.parsePart(part)
	part.Text = p.text[start.offset:p.nextOffset]
	p.advance()
	return part.Column, part
}

func (p *parser) parseColumn() string {
	name := p.token.text
	if p.token.kind != tokenQuoted && (p.token.kind != tokenName || reserved[strings.ToLower(name)]) {
		p.failExpected("a column name (in double quotes unless it is a plain word)")
	}
	p.advance()
	return name
}

func (p *parser) parseLiteral() Literal {
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

func (p *parser) parseQuoted() Literal {
	if p.token.kind != tokenLiteral || p.token.value.Kind != Text {
		p.failExpected("text in single quotes")
	}
	return p.parseLiteral()
}

// between returns a node that tests whether the column of n is at least low and at most high.
func between(n Node, low, high Literal) *Node {
	atLeast, atMost := n, n
	atLeast.Op, atLeast.Values = Ge, []Literal{low}
	atMost.Op, atMost.Values = Le, []Literal{high}
	atLeast.Bounds = []Literal{low, high}
	atMost.Bounds = atLeast.Bounds
	return &Node{Op: And, Parts: []*Node{&atLeast, &atMost}, Offset: n.Offset}
}

func negateIf(negate bool, n *Node) *Node {
	if negate {
		return &Node{Op: Not, Parts: []*Node{n}, Offset: n.Offset}
	}
	return n
}

// parseList parses the list of values after the keyword "in" into n.Values.
func (p *parser) parseList(n *Node) {
	for sep := "("; p.err == nil; sep = "," {
		if !p.skip(sep) {
			p.failExpected(fmt.Sprintf("%q", sep))
			return
		}
		n.Values = append(n.Values, p.parseLiteral())
		if p.skip(")") {
			return
		}
	}
}
