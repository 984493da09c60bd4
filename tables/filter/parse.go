package filter

import (
	"fmt"
	"strings"
)

const (
	maxText  = 1 << 20 // bytes of an expression
	maxDepth = 100     // of parentheses and not within each other
)

type parser struct {
	text  string
	token token // the next one
	after int   // offset behind it
	depth int
	err   error // the first one, behind which there is only the end
}

// Parse parses an expression. Its error is a [*SyntaxError].
func Parse(text string) (*Expr, error) {
	if len(text) > maxText {
		return nil, &SyntaxError{maxText, fmt.Sprintf("the expression has %d bytes, the limit is %d", len(text), maxText)}
	}
	p := &parser{text: text}
	p.advance()
	root := p.expression()
	if p.token.kind != tokenEnd {
		p.wanted("and, or, or the end")
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

// wanted is the error of a token that should have been another one.
func (p *parser) wanted(what string) {
	found := "the end"
	if p.token.kind != tokenEnd {
		found = fmt.Sprintf("%.40q", p.text[p.token.offset:p.after])
	}
	p.fail(&SyntaxError{p.token.offset, "expected " + what + ", found " + found})
}

// word tells whether the next token is a keyword, a parenthesis or a comma, and skips it if so.
func (p *parser) word(w string) bool {
	found := (p.token.kind == tokenName || p.token.kind == tokenSign) && strings.EqualFold(p.token.text, w)
	if found {
		p.advance()
	}
	return found
}

func (p *parser) expression() *node {
	return p.chain("or", opOr, func() *node { return p.chain("and", opAnd, p.factor) })
}

// chain reads parts with a keyword between them, however many, as one node.
func (p *parser) chain(keyword string, op operator, part func() *node) *node {
	n := &node{op: op, offset: p.token.offset, parts: []*node{part()}}
	for p.word(keyword) {
		n.parts = append(n.parts, part())
	}
	if len(n.parts) == 1 {
		return n.parts[0]
	}
	return n
}

// factor reads what is in parentheses, behind a not, or a comparison.
func (p *parser) factor() *node {
	n := &node{op: opNot, offset: p.token.offset}
	if p.depth++; p.depth > maxDepth {
		p.fail(&SyntaxError{p.token.offset, fmt.Sprintf("more than %d parentheses and nots within each other", maxDepth)})
	}
	defer func() { p.depth-- }()
	switch {
	case p.word("not"):
		n.parts = []*node{p.factor()}
		return n
	case p.word("("):
		n := p.expression()
		if !p.word(")") {
			p.wanted(`")"`)
		}
		return n
	}
	return p.comparison()
}

var (
	comparisons = map[string]operator{"=": opEq, "==": opEq, "!=": opNe, "<>": opNe, "<": opLt, "<=": opLe, ">": opGt, ">=": opGe}
	mirrored    = map[operator]operator{opEq: opEq, opNe: opNe, opLt: opGt, opLe: opGe, opGt: opLt, opGe: opLe}
	reserved    = map[string]bool{"and": true, "or": true, "not": true, "in": true, "is": true, "null": true}
)

func (p *parser) comparison() *node {
	n := &node{offset: p.token.offset}
	if p.token.kind == tokenLiteral { // as in 100 < price
		n.values = []literal{p.literal()}
		n.op = mirrored[p.comparing()]
		n.column = p.column()
		return n
	}
	n.column = p.column()
	if p.word("is") {
		n.op = opNull
		not := p.word("not")
		if !p.word("null") {
			p.wanted("null")
		}
		return negated(not, n)
	}
	not := p.word("not")
	switch {
	case p.word("in"):
		n.op = opIn
		p.list(n)
	case p.word("like"):
		n.op, n.values = opLike, []literal{p.quoted()}
		if p.word("escape") {
			n.values = append(n.values, p.quoted())
		}
	case p.word("between"):
		low := p.literal()
		if !p.word("and") {
			p.wanted("and")
		}
		n = between(n.column, low, p.literal(), n.offset)
	case not:
		p.wanted("in, like or between")
	default:
		n.op = p.comparing()
		isName := p.token.kind == tokenName && !reserved[strings.ToLower(p.token.text)]
		if n.against = isName || p.token.kind == tokenQuoted; n.against {
			n.other = p.column()
		} else {
			n.values = []literal{p.literal()}
		}
	}
	return negated(not, n)
}

func (p *parser) comparing() operator {
	op, ok := comparisons[p.token.text]
	if p.token.kind != tokenSign || !ok {
		p.wanted("a comparison: =, !=, <, <=, >, >=, in, like, between, or is null, the last four of them with not where that is meant")
	}
	p.advance()
	return op
}

func (p *parser) column() string {
	name := p.token.text
	if p.token.kind != tokenQuoted && (p.token.kind != tokenName || reserved[strings.ToLower(name)]) {
		p.wanted("the name of a column (in double quotes if it is no plain word)")
	}
	p.advance()
	return name
}

func (p *parser) literal() literal {
	value := p.token.value
	switch {
	case p.token.kind == tokenLiteral:
	case p.token.kind == tokenName && strings.EqualFold(p.token.text, "null"):
		p.fail(&SyntaxError{p.token.offset, "nothing equals null: write is null, or is not null"})
	default:
		p.wanted("a number, true, false, or a text in single quotes")
	}
	p.advance()
	return value
}

// quoted is literal for a text.
func (p *parser) quoted() literal {
	if p.token.kind != tokenLiteral || p.token.value.kind != literalText {
		p.wanted("a text in single quotes")
	}
	return p.literal()
}

// between is what a column comes to that is in a range.
func between(column string, low, high literal, offset int) *node {
	part := func(op operator, l literal) *node {
		return &node{op: op, column: column, values: []literal{l}, offset: offset}
	}
	return &node{op: opAnd, parts: []*node{part(opGe, low), part(opLe, high)}, offset: offset}
}

// negated returns a node, or its opposite.
func negated(not bool, n *node) *node {
	if not {
		return &node{op: opNot, parts: []*node{n}, offset: n.offset}
	}
	return n
}

// list reads what follows in.
func (p *parser) list(n *node) {
	for sep := "("; p.err == nil; sep = "," {
		if !p.word(sep) {
			p.wanted(fmt.Sprintf("%q", sep))
			return
		}
		n.values = append(n.values, p.literal())
		if p.word(")") {
			return
		}
	}
}
