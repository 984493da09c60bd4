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
}

// Parse reads an expression. Its error is a [*SyntaxError].
func Parse(text string) (*Expr, error) {
	if len(text) > maxText {
		return nil, &SyntaxError{maxText, fmt.Sprintf("the expression has %d bytes, the limit is %d", len(text), maxText)}
	}
	p := &parser{text: text}
	if err := p.advance(); err != nil {
		return nil, err
	}
	root, err := p.chain("or", opOr, func() (*node, error) { return p.chain("and", opAnd, p.factor) })
	if err != nil {
		return nil, err
	}
	if p.token.kind != tokenEnd {
		return nil, p.wanted("and, or, or the end")
	}
	return &Expr{text: text, root: root}, nil
}

func (p *parser) advance() (err error) {
	p.token, p.after, err = next(p.text, p.after)
	return err
}

// wanted is the error of a token that should have been another one.
func (p *parser) wanted(what string) error {
	found := "the end"
	if p.token.kind != tokenEnd {
		found = fmt.Sprintf("%.40q", p.text[p.token.offset:p.after])
	}
	return &SyntaxError{p.token.offset, "expected " + what + ", found " + found}
}

// word tells whether the next token is a keyword, and skips it if so.
func (p *parser) word(w string) (bool, error) {
	if p.token.kind != tokenName || !strings.EqualFold(p.token.text, w) {
		return false, nil
	}
	return true, p.advance()
}

// sign is word for an operator, a parenthesis or a comma.
func (p *parser) sign(s string) (bool, error) {
	if p.token.kind != tokenSign || p.token.text != s {
		return false, nil
	}
	return true, p.advance()
}

// chain reads parts with a keyword between them, however many, as one node.
func (p *parser) chain(keyword string, op operator, part func() (*node, error)) (*node, error) {
	n := &node{op: op, offset: p.token.offset}
	for {
		one, err := part()
		if err != nil {
			return nil, err
		}
		n.parts = append(n.parts, one)
		more, err := p.word(keyword)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	if len(n.parts) == 1 {
		return n.parts[0], nil
	}
	return n, nil
}

// factor reads what is in parentheses, behind a not, or a comparison.
func (p *parser) factor() (*node, error) {
	offset := p.token.offset
	if p.depth++; p.depth > maxDepth {
		return nil, &SyntaxError{offset, fmt.Sprintf("more than %d parentheses and nots within each other", maxDepth)}
	}
	defer func() { p.depth-- }()
	if not, err := p.word("not"); err != nil {
		return nil, err
	} else if not {
		part, err := p.factor()
		return &node{op: opNot, parts: []*node{part}, offset: offset}, err
	}
	if open, err := p.sign("("); err != nil {
		return nil, err
	} else if open {
		n, err := p.chain("or", opOr, func() (*node, error) { return p.chain("and", opAnd, p.factor) })
		if err != nil {
			return nil, err
		}
		if closed, err := p.sign(")"); err != nil || closed {
			return n, err
		}
		return nil, p.wanted(`")"`)
	}
	return p.comparison()
}

var (
	comparisons = map[string]operator{"=": opEq, "==": opEq, "!=": opNe, "<>": opNe, "<": opLt, "<=": opLe, ">": opGt, ">=": opGe}
	mirrored    = map[operator]operator{opEq: opEq, opNe: opNe, opLt: opGt, opLe: opGe, opGt: opLt, opGe: opLe}
	reserved    = map[string]bool{"and": true, "or": true, "not": true, "in": true, "is": true, "null": true}
)

func (p *parser) comparison() (*node, error) {
	n := &node{offset: p.token.offset}
	if p.token.kind == tokenLiteral { // as in 100 < price
		value := p.token.value
		if err := p.advance(); err != nil {
			return nil, err
		}
		op, err := p.comparing()
		if err != nil {
			return nil, err
		}
		n.op, n.values = mirrored[op], []literal{value}
		n.column, err = p.column()
		return n, err
	}
	var err error
	if n.column, err = p.column(); err != nil {
		return nil, err
	}
	if is, err := p.word("is"); err != nil {
		return nil, err
	} else if is {
		return p.null(n)
	}
	not, err := p.word("not")
	if err != nil {
		return nil, err
	}
	in, err := p.word("in")
	switch {
	case err != nil:
		return nil, err
	case in:
		n.op = opIn
		return negated(not, n), p.list(n)
	case not:
		return nil, p.wanted("in")
	}
	if n.op, err = p.comparing(); err != nil {
		return nil, err
	}
	n.values, err = p.literal(nil)
	return n, err
}

func (p *parser) comparing() (operator, error) {
	op, ok := comparisons[p.token.text]
	if p.token.kind != tokenSign || !ok {
		return 0, p.wanted("a comparison: =, !=, <, <=, >, >=, in, not in, is null or is not null")
	}
	return op, p.advance()
}

func (p *parser) column() (string, error) {
	name := p.token.text
	if p.token.kind != tokenQuoted && (p.token.kind != tokenName || reserved[strings.ToLower(name)]) {
		return "", p.wanted("the name of a column (in double quotes if it is no plain word)")
	}
	return name, p.advance()
}

// literal adds the next value.
func (p *parser) literal(to []literal) ([]literal, error) {
	if p.token.kind != tokenLiteral {
		if p.token.kind == tokenName && strings.EqualFold(p.token.text, "null") {
			return nil, &SyntaxError{p.token.offset, "nothing equals null: write is null, or is not null"}
		}
		return nil, p.wanted("a number, true, false, or a text in single quotes")
	}
	to = append(to, p.token.value)
	return to, p.advance()
}

// null reads what follows is.
func (p *parser) null(n *node) (*node, error) {
	not, err := p.word("not")
	if err != nil {
		return nil, err
	}
	n.op = opNull
	if null, err := p.word("null"); err != nil || null {
		return negated(not, n), err
	}
	return nil, p.wanted("null")
}

// negated returns a node, or its opposite.
func negated(not bool, n *node) *node {
	if not {
		return &node{op: opNot, parts: []*node{n}, offset: n.offset}
	}
	return n
}

// list reads what follows in.
func (p *parser) list(n *node) error {
	sep := "("
	for {
		ok, err := p.sign(sep)
		if err != nil {
			return err
		}
		if !ok {
			return p.wanted(fmt.Sprintf("%q", sep))
		}
		if n.values, err = p.literal(n.values); err != nil {
			return err
		}
		if closed, err := p.sign(")"); err != nil || closed {
			return err
		}
		sep = ","
	}
}
