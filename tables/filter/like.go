package filter

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// Runes of a pattern that stand for others.
const (
	anyText rune = -1 - iota
	anyOne
)

// pattern is what like compares a text with.
type pattern struct {
	runes  []rune
	prefix string // of all texts that are like it
}

// bindLike makes the pattern of a node, whose second value is the sign before which % and _
// stand for themselves.
func (b *boundNode) bindLike(values []literal) error {
	if b.as.ID() != arrow.STRING {
		return errors.New("like is for columns of texts")
	}
	escape := rune(-1)
	if len(values) > 1 {
		var size int
		if escape, size = utf8.DecodeRuneInString(values[1].text); size != len(values[1].text) || size == 0 {
			return errors.New("what follows escape is one character")
		}
	}
	p := &pattern{}
	for all := []rune(values[0].text); len(all) > 0; all = all[1:] {
		c := all[0]
		switch {
		case c == escape:
			if all = all[1:]; len(all) == 0 {
				return errors.New("the pattern ends with the character that is for escapes")
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

// matches reports whether a text is like the pattern. It goes back to the last % alone,
// since an earlier one would find nothing that this one does not.
func (p *pattern) matches(text string) bool {
	if !strings.HasPrefix(text, p.prefix) {
		return false
	}
	at, again, from := 0, -1, 0
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case at < len(p.runes) && p.runes[at] == anyText:
			again, from = at, i
			at++
		case at < len(p.runes) && (p.runes[at] == c || p.runes[at] == anyOne):
			at++
			i += size
		case again >= 0:
			_, size = utf8.DecodeRuneInString(text[from:])
			from += size
			at, i = again+1, from
		default:
			return false
		}
	}
	for at < len(p.runes) && p.runes[at] == anyText {
		at++
	}
	return at == len(p.runes)
}

// within returns what a comparison may come to of texts within bounds.
func (p *pattern) within(b Bounds) outcomes {
	tooSmall := b.Most != nil && string(b.Most) < p.prefix
	tooLarge := b.Least != nil && string(b.Least) > p.prefix && !strings.HasPrefix(string(b.Least), p.prefix)
	if tooSmall || tooLarge {
		return fails
	}
	return holds | fails
}
