package where

import (
	"fmt"
	"math/big"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenQuoted // a column's name in double quotes
	tokenLiteral
	tokenSign // an operator, a parenthesis or a comma
)

type token struct {
	kind   tokenKind
	text   string
	value  Literal
	offset int
}

// maxDigits is the maximum length of a number without its exponent. Together with the limit of 3 digits for the
// exponent, maxDigits bounds the memory for the exact value.
const maxDigits = 400

// otherSyntax maps characters that pandas and programming languages use in expressions to what this
// syntax uses instead.
var otherSyntax = map[rune]string{'&': "and", '|': "or", '~': "not", '!': "not", '[': "(", '`': "names in double quotes"}

// nextToken returns the first token of text after an offset, and the offset after that token.
func nextToken(text string, offset int) (token, int, error) {
	offset = len(text) - len(strings.TrimLeftFunc(text[offset:], unicode.IsSpace))
	if offset == len(text) {
		return token{offset: offset}, offset, nil
	}
	t := token{offset: offset}
	c, _ := utf8.DecodeRuneInString(text[offset:])
	switch {
	case c == '\'' || c == '"':
		content, end, ok := readQuoted(text, offset)
		if !ok {
			return t, 0, &SyntaxError{offset, fmt.Sprintf("the quote %c is not closed", c)}
		}
		t.kind, t.text = tokenQuoted, content
		if c == '\'' {
			t.kind, t.value = tokenLiteral, Literal{Kind: Text, Text: content, Offset: offset}
		}
		return t, end, nil
	case c == '_' || unicode.IsLetter(c):
		isInName := func(c rune) bool { return c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c) }
		end := len(text) - len(strings.TrimLeftFunc(text[offset:], isInName))
		t.kind, t.text = tokenName, text[offset:end]
		if word := strings.ToLower(t.text); word == "true" || word == "false" {
			t.kind, t.value = tokenLiteral, Literal{Kind: Bool, Text: word, Offset: offset}
		}
		return t, end, nil
	case c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.':
		return readNumber(text, offset)
	}
	for _, sign := range []string{"!=", "<>", "<=", ">=", "==", "=", "<", ">", "(", ")", ","} {
		if strings.HasPrefix(text[offset:], sign) {
			t.kind, t.text = tokenSign, sign
			return t, offset + len(sign), nil
		}
	}
	message := fmt.Sprintf("unexpected %q", c)
	if instead, ok := otherSyntax[c]; ok {
		message += ": write " + instead
	}
	return t, 0, &SyntaxError{offset, message}
}

// readQuoted reads quoted text. It returns the content and the offset after the text. Two quotes in the text stand for
// one.
func readQuoted(text string, offset int) (string, int, bool) {
	var content strings.Builder
	quote := text[offset]
	for i := offset + 1; i < len(text); i++ {
		if text[i] != quote {
			content.WriteByte(text[i])
			continue
		}
		if i+1 == len(text) || text[i+1] != quote {
			return content.String(), i + 1, true
		}
		content.WriteByte(quote)
		i++
	}
	return "", 0, false
}

func readNumber(text string, offset int) (token, int, error) {
	end := offset + 1
	for end < len(text) && (strings.IndexByte("0123456789.eE_", text[end]) >= 0 ||
		(text[end] == '+' || text[end] == '-') && (text[end-1] == 'e' || text[end-1] == 'E')) {
		end++
	}
	t := token{kind: tokenLiteral, text: text[offset:end], offset: offset}
	syntaxErr := &SyntaxError{offset, fmt.Sprintf("%.40q is not a number", t.text)}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(t.text), "e")
	if len(mantissa) > maxDigits || len(strings.TrimLeft(exponent, "+-")) > 3 || strings.Contains(t.text, "_") {
		return t, 0, syntaxErr
	}
	value, ok := new(big.Rat).SetString(t.text)
	if !ok {
		return t, 0, syntaxErr
	}
	t.value = Literal{Kind: Number, Text: t.text, Number: value, Offset: offset}
	return t, end, nil
}

// CutQuoted cuts text in double quotes from the beginning of list. Two quotes in the text stand for one. It returns
// false if list does not begin with such text.
func CutQuoted(list string) (content, rest string, ok bool) {
	if !strings.HasPrefix(list, `"`) {
		return "", list, false
	}
	content, end, ok := readQuoted(list, 0)
	return content, list[end:], ok
}

// CutElement cuts an element, such as x as "new name", and the comma after it from the beginning of
// list. It returns the text before "as", the name after it ("" if there is none), and whether a
// comma follows.
func CutElement(list string) (element, name, rest string, more bool, err error) {
	element, rest, more = strings.Cut(list, ",")
	as := IndexAs(element)
	if as < 0 {
		return element, "", rest, more, nil
	}
	element, name = list[:as], strings.TrimLeft(list[as+len(" as "):], " ")
	content, after, isQuoted := CutQuoted(name)
	if !isQuoted {
		content, after = name, ""
		if comma := strings.IndexByte(name, ','); comma >= 0 {
			content, after = name[:comma], name[comma:]
		}
		content = strings.TrimRight(content, " ")
	}
	after = strings.TrimLeft(after, " ")
	if content == "" || strings.HasPrefix(name, `"`) && !isQuoted || after != "" && after[0] != ',' {
		return "", "", "", false, fmt.Errorf(`"as" needs a name, in double quotes if it contains a comma, not %q`, name)
	}
	return element, content, strings.TrimPrefix(after, ","), after != "", nil
}

// IndexAs returns the index of the first " as ", the keyword before a new name, or -1.
func IndexAs(element string) int {
	lower, upper := strings.Index(element, " as "), strings.Index(element, " AS ")
	if lower < 0 || upper >= 0 && upper < lower {
		return upper
	}
	return lower
}
