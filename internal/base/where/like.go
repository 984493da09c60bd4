package where

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// Values in Pattern.runes that stand for % and _.
const (
	anyText rune = -1 - iota
	anyOne
)

// Pattern is a parsed pattern for the "like" operator.
type Pattern struct {
	Prefix string // the text before the first % or _
	runes  []rune
}

// ParsePattern parses values[0], the pattern for the "like" operator. values[1], if it exists, is
// the escape character for % and _.
func ParsePattern(values []Literal) (*Pattern, error) {
	escape := rune(-1)
	if len(values) > 1 {
		var size int
		escape, size = utf8.DecodeRuneInString(values[1].Text)
		if size != len(values[1].Text) || size == 0 {
			return nil, errors.New("the text after escape must be a single character")
		}
	}
	p := &Pattern{}
	for all := []rune(values[0].Text); len(all) > 0; all = all[1:] {
		c := all[0]
		switch {
		case c == escape:
			all = all[1:]
			if len(all) == 0 {
				return nil, errors.New("the pattern ends with the escape character")
			}
			c = all[0]
		case c == '%':
			c = anyText
		case c == '_':
			c = anyOne
		}
		p.runes = append(p.runes, c)
	}
	end := slices.IndexFunc(p.runes, func(c rune) bool { return c < 0 })
	if end < 0 {
		end = len(p.runes)
	}
	p.Prefix = string(p.runes[:end])
	return p, nil
}

// Matches reports whether text matches the pattern. It backtracks only to the last %: if no match exists from there,
// backtracking to an earlier % finds no match either.
func (p *Pattern) Matches(text string) bool {
	if !strings.HasPrefix(text, p.Prefix) {
		return false
	}
	pos, lastAny, resume := 0, -1, 0
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case pos < len(p.runes) && p.runes[pos] == anyText:
			lastAny, resume = pos, i
			pos++
		case pos < len(p.runes) && (p.runes[pos] == c || p.runes[pos] == anyOne):
			pos++
			i += size
		case lastAny >= 0:
			_, size = utf8.DecodeRuneInString(text[resume:])
			resume += size
			pos, i = lastAny+1, resume
		default:
			return false
		}
	}
	for pos < len(p.runes) && p.runes[pos] == anyText {
		pos++
	}
	return pos == len(p.runes)
}
