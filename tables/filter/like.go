package filter

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// Values in pattern.runes that stand for % and _.
const (
	anyText rune = -1 - iota
	anyOne
)

// pattern is a parsed pattern of the operator "like".
type pattern struct {
	runes  []rune
	prefix string // the text before the first % or _
}

// bindLike parses values[0], the pattern of the operator "like". values[1], if it exists, is the escape character for %
// and _.
func (b *boundNode) bindLike(values []literal) error {
	if b.typ.ID() != arrow.STRING {
		return errors.New("like applies only to text columns")
	}
	escape := rune(-1)
	if len(values) > 1 {
		var size int
		escape, size = utf8.DecodeRuneInString(values[1].text)
		if size != len(values[1].text) || size == 0 {
			return errors.New("the text after escape must be a single character")
		}
	}
	p := &pattern{}
	for all := []rune(values[0].text); len(all) > 0; all = all[1:] {
		c := all[0]
		switch {
		case c == escape:
			all = all[1:]
			if len(all) == 0 {
				return errors.New("the pattern ends with the escape character")
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
	p.prefix = string(p.runes[:end])
	b.like = p
	return nil
}

// matches reports whether text matches the pattern. It backtracks only to the last %: if no match exists from there,
// backtracking to an earlier % finds no match either.
func (p *pattern) matches(text string) bool {
	if !strings.HasPrefix(text, p.prefix) {
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

// outcomesWithin returns the possible outcomes for strings between the bounds.
func (p *pattern) outcomesWithin(b Bounds) outcomes {
	tooSmall := b.Max != nil && string(b.Max) < p.prefix
	tooLarge := b.Min != nil && string(b.Min) > p.prefix && !strings.HasPrefix(string(b.Min), p.prefix)
	if tooSmall || tooLarge {
		return fails
	}
	return holds | fails
}
