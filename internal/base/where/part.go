package where

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Part is a part of a column's values, such as before(path, '/').
type Part struct {
	Text   string // the part as it was written
	Column string
	cuts   []cut // in the order in which they are applied

	changes bool // a cut changes characters instead of removing them
}

// cut shortens a value or, if function is lower or nfc, changes its characters.
type cut struct {
	function string
	sep      []byte // for before and after
	n        int    // for before and after, which separator, counted from the end if negative; otherwise the number of characters
}

// usages describes how to call each function.
var usages = map[string]string{
	"before": "before(column, 'separator'), or before(column, 'separator', N) for the Nth, or -1 for the last",
	"after":  "after(column, 'separator'), or after(column, 'separator', N) for the Nth, or -1 for the last",
	"prefix": "prefix(column, N) for the first N characters",
	"day":    "day(column)",
	"month":  "month(column)",
	"lower":  "lower(column)",
	"nfc":    "nfc(column)",
}

// ParsePart parses a part at the beginning of text. It returns the part and the rest of text, or nil if text does not
// begin with the name of a function and a parenthesis.
func ParsePart(text string) (*Part, string, error) {
	name, _, _ := strings.Cut(text, "(")
	if len(name) == len(text) || usages[name] == "" {
		return nil, text, nil
	}
	p := &parser{text: text[:min(len(text), maxText)]}
	p.advance()
	part := &Part{}
	p.parsePart(part)
	if p.err != nil {
		return nil, text, errors.New(strings.TrimPrefix(p.err.Error(), "filter: "))
	}
	part.Text = text[:p.nextOffset]
	return part, text[p.nextOffset:], nil
}

// PartHint returns text for the error about a field that is not a column but looks like a part, such as upper(name). It
// returns "" for other fields.
func PartHint(field string) string {
	name, _, isCall := strings.Cut(field, "(")
	if !isCall || usages[name] != "" || strings.ContainsFunc(name, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) }) {
		return ""
	}
	return "; the parts of a column are " + strings.Join(slices.Sorted(maps.Keys(usages)), ", ")
}

// parsePart parses a function call, except its closing parenthesis, which is then the next token.
func (p *parser) parsePart(part *Part) {
	p.depth++
	defer func() { p.depth-- }()
	c := cut{function: p.token.text, n: 1}
	usage := usages[c.function]
	if p.depth > maxDepth {
		p.fail(&SyntaxError{p.token.offset, fmt.Sprintf("functions are nested more than %d levels deep", maxDepth)})
	}
	p.advance()
	p.skip("(")
	switch {
	case p.startsPart():
		p.parsePart(part)
		p.advance()
	case p.token.kind == tokenLiteral && p.token.value.Kind == Number: // the number of a column
		part.Column = p.token.text
		p.advance()
	default:
		part.Column = p.parseColumn()
	}
	switch c.function {
	case "day":
		c.n = len("2006-01-02")
	case "month":
		c.n = len("2006-01")
	case "before", "after":
		p.expect(",", usage)
		c.sep = []byte(p.token.value.Text)
		if p.token.kind == tokenQuoted {
			c.sep = []byte(p.token.text)
		}
		if len(c.sep) == 0 || p.token.kind != tokenQuoted && (p.token.kind != tokenLiteral || p.token.value.Kind != Text) {
			p.failExpected("a separator in quotes: " + usage)
		}
		p.advance()
		if p.skip(",") {
			c.n = p.parseCount(usage)
		}
	case "prefix":
		p.expect(",", usage)
		c.n = p.parseCount(usage)
		if c.n < 0 {
			p.failExpected("a positive number: " + usage)
		}
	}
	if p.token.kind != tokenSign || p.token.text != ")" {
		p.failExpected(`")": ` + usage)
	}
	part.cuts = append(part.cuts, c)
	part.changes = part.changes || c.function == "lower" || c.function == "nfc"
}

// startsPart reports whether the next token is a function's name before a parenthesis.
func (p *parser) startsPart() bool {
	return p.token.kind == tokenName && usages[p.token.text] != "" && strings.HasPrefix(strings.TrimLeft(p.text[p.nextOffset:], " "), "(")
}

func (p *parser) expect(sign, usage string) {
	if !p.skip(sign) {
		p.failExpected(fmt.Sprintf("%q: %s", sign, usage))
	}
}

// parseCount parses an integer other than 0.
func (p *parser) parseCount(usage string) int {
	const maxCount = 1 << 30
	n := p.token.value.Number
	if n == nil || !n.IsInt() || n.Sign() == 0 || new(big.Int).Abs(n.Num()).Cmp(big.NewInt(maxCount)) > 0 {
		p.failExpected("a whole number: " + usage)
		return 1
	}
	p.advance()
	return int(n.Num().Int64())
}

// Changes reports whether the part can contain characters that the value does not. If so, use Append instead of Of.
func (p *Part) Changes() bool { return p.changes }

// Of returns the bounds of the part of value, which is value[from:to]. Changes must return false. Of returns an error
// if a date is required but value is neither a date nor empty.
func (p *Part) Of(value []byte) (from, to int, err error) {
	to = len(value)
	for i := range p.cuts {
		start, end, ok := p.cuts[i].of(value[from:to])
		if !ok {
			return from, to, p.dateError(value)
		}
		from, to = from+start, from+end
	}
	return from, to, nil
}

// Append appends the part of value to buf and returns the extended buffer. It returns the same errors as Of.
func (p *Part) Append(buf, value []byte) ([]byte, error) {
	length, v := len(buf), value
	for i := range p.cuts {
		switch c := &p.cuts[i]; c.function {
		case "lower":
			start := len(buf)
			buf = appendLower(buf, v)
			v = buf[start:]
		case "nfc":
			v = normalize(v)
		default:
			from, to, ok := c.of(v)
			if !ok {
				return buf[:length], p.dateError(value)
			}
			v = v[from:to]
		}
	}
	return append(buf[:length], v...), nil // v may share buf's memory from index length on
}

// appendLower appends text with Unicode's simple mapping to lower case. Bytes that are not UTF-8 stay as they are.
func appendLower(buf, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			buf = append(buf, text[0])
		} else {
			buf = utf8.AppendRune(buf, unicode.ToLower(r))
		}
		text = text[size:]
	}
	return buf
}

func (p *Part) dateError(value []byte) error {
	return fmt.Errorf("%s needs a date such as 2026-01-31, not %.40q", p.Text, value)
}

// of returns the bounds of what the cut keeps of v, which is v[from:to]. ok is false if v must be a date but is not.
func (c *cut) of(v []byte) (from, to int, ok bool) {
	to = len(v)
	switch c.function {
	case "before":
		if k := c.find(v); k >= 0 {
			to = k
		}
	case "after":
		from = to
		if k := c.find(v); k >= 0 {
			from = k + len(c.sep)
		}
	case "prefix":
		to = 0
		for n := 0; n < c.n && to < len(v); n++ {
			_, size := utf8.DecodeRune(v[to:])
			to += size
		}
	default: // day and month
		if len(v) == 0 {
			break
		}
		if _, isTime := TimeOf(v); !isTime {
			return 0, to, false
		}
		to = c.n
	}
	return from, to, true
}

// find returns the index of the cut's separator in value, or -1.
func (c *cut) find(value []byte) int {
	if c.n < 0 {
		end := len(value)
		for n := c.n; n < 0 && end >= 0; n++ {
			end = bytes.LastIndex(value[:end], c.sep)
		}
		return end
	}
	start := 0
	for n := 1; ; n++ {
		k := bytes.Index(value[start:], c.sep)
		if k < 0 {
			return -1
		}
		if n == c.n {
			return start + k
		}
		start += k + len(c.sep)
	}
}
