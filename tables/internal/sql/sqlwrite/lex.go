package sqlwrite

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

type kind uint8

const (
	word   kind = iota // a keyword, or a name without quotes
	quoted             // a name in quotes
	text               // a string
	number
	parameter // ?, $1 or $name
	symbol    // any other single character
)

// token is a token of a statement. Comments and spaces are not tokens.
type token struct {
	kind       kind
	start, end int    // offsets in the statement, in bytes
	upper      string // a word in upper case, or a symbol; otherwise ""
	depth      int    // number of brackets and CASE expressions around the token, not counting its own
	questions  int    // number of ? before the token
}

// lex splits a statement into tokens, as DuckDB's scanner does.
func lex(sql string) ([]token, error) {
	var tokens []token
	var open []byte // open brackets, and 'C' for each open CASE
	questions := 0
	for i := 0; i < len(sql); {
		n := spaceLength(sql[i:])
		if n < 0 {
			return nil, sqltext.RefusedAt(sql, i, "a comment is not closed")
		}
		if n > 0 {
			i += n
			continue
		}
		t := token{start: i, depth: len(open), questions: questions}
		t.kind, n = scan(sql[i:])
		if n < 0 {
			return nil, sqltext.RefusedAt(sql, i, "a quote is not closed")
		}
		t.end = i + n
		switch t.kind {
		case parameter:
			if sql[i] == '?' {
				questions++
			}
		case word, symbol:
			t.upper = strings.ToUpper(sql[i:t.end])
			if strings.ContainsFunc(t.upper, func(r rune) bool { return r >= utf8.RuneSelf && !unicode.IsGraphic(r) || unicode.IsSpace(r) }) { // DuckDB treats some of these characters as spaces
				return nil, sqltext.RefusedAt(sql, i, "%q contains a character that is invisible: use plain spaces, or quote the name", sql[i:t.end])
			}
		}
		isLabel := false // a word after a dot or AS is a name
		if len(tokens) > 0 {
			last := tokens[len(tokens)-1].upper
			isLabel = t.kind == word && (last == "." || last == "AS" && t.upper != "MATERIALIZED" && t.upper != "NOT")
		}
		switch {
		case t.upper == "(" || t.upper == "[" || t.upper == "{":
			open = append(open, t.upper[0])
		case t.upper == "CASE" && !isLabel:
			open = append(open, 'C')
		case t.upper == ")" || t.upper == "]" || t.upper == "}" || t.upper == "END" && !isLabel && len(tokens) > 0:
			if len(open) == 0 || open[len(open)-1] != opening[t.upper] {
				return nil, sqltext.RefusedAt(sql, i, "%s closes nothing", t.upper)
			}
			open = open[:len(open)-1]
			t.depth--
		}
		tokens = append(tokens, t)
		i = t.end
	}
	if len(open) > 0 {
		return nil, sqltext.RefusedAt(sql, len(sql), "a bracket or a CASE is not closed")
	}
	return tokens, nil
}

var opening = map[string]byte{")": '(', "]": '[', "}": '{', "END": 'C'}

// spaceLength returns the length of the space or comment at the start of s, 0 if there is none, or -1 if a comment is
// not closed.
func spaceLength(s string) int {
	switch {
	case strings.ContainsRune(" \t\n\r\f\v", rune(s[0])):
		return 1
	case strings.HasPrefix(s, "--"):
		if n := strings.IndexAny(s, "\r\n"); n >= 0 {
			return n
		}
		return len(s)
	case strings.HasPrefix(s, "/*"):
		depth := 0
		for i := 0; i+1 < len(s); i++ {
			switch s[i : i+2] {
			case "/*":
				depth++
				i++
			case "*/":
				i++
				depth--
				if depth == 0 {
					return i + 1
				}
			}
		}
		return -1
	}
	return 0
}

// scan returns the kind and the length of the token at the start of s. The length is -1 if a quote is not closed.
func scan(s string) (kind, int) {
	if len(s) > 1 && s[1] == '\'' && strings.ContainsRune("eE", rune(s[0])) {
		return text, quotedLength(s, 2, '\'', true)
	}
	c := s[0]
	switch {
	case c == '\'':
		return text, quotedLength(s, 1, c, false)
	case c == '"':
		return quoted, quotedLength(s, 1, c, false)
	case c == '$':
		n := 1 + wordLength(s[1:], false)
		if n < len(s) && s[n] == '$' && (n == 1 || !isDigit(s[1])) {
			if end := strings.Index(s[n+1:], s[:n+1]); end >= 0 {
				return text, 2*(n+1) + end
			}
			return text, -1
		}
		return parameter, n
	case c == '?':
		return parameter, 1
	case isDigit(c):
		n := 1
		for n < len(s) && (isDigit(s[n]) || isLetter(s[n]) || s[n] == '.') {
			n++
		}
		return number, n
	case isLetter(c):
		return word, wordLength(s, true)
	}
	_, n := utf8.DecodeRuneInString(s)
	return symbol, n
}

// quotedLength returns the length of the quoted token at the start of s, or -1 if it is not closed. Its content begins
// at s[i]. If backslashes is true, a backslash escapes the next character.
func quotedLength(s string, i int, quote byte, backslashes bool) int {
	for ; i < len(s); i++ {
		switch {
		case backslashes && s[i] == '\\', s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return -1
}

func wordLength(s string, dollars bool) (n int) {
	for n < len(s) && (isLetter(s[n]) || isDigit(s[n]) || dollars && s[n] == '$') {
		n++
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}

// Literal is a whole number without a sign, or a text without escapes, in a statement.
type Literal struct {
	Offset int // in bytes
	Value  string
	IsText bool
}

// CutLiterals returns a template, which is the statement with placeholders in place of its literals, and the literals.
// Statements with the same template differ only in the values of literals. Placeholders contain zero bytes, so that no
// statement is equal to a template of another one. In a statement with comments, CutLiterals finds none.
func CutLiterals(sql string) (string, []Literal) {
	const maxDigits = 18
	tokens, err := lex(sql)
	if err != nil {
		return sql, nil
	}
	var template strings.Builder
	var literals []Literal
	end := 0 // end of the last literal
	for _, t := range tokens {
		l, placeholder := Literal{Offset: t.start, Value: sql[t.start:t.end]}, "\x000"
		switch {
		case t.kind == number && len(l.Value) <= maxDigits && strings.Trim(l.Value, "0123456789") == "" && (l.Value == "0" || l.Value[0] != '0'):
		case t.kind == text && l.Value[0] == '\'' && !strings.ContainsAny(l.Value[1:len(l.Value)-1], `'\`):
			l.Value, l.IsText, placeholder = l.Value[1:len(l.Value)-1], true, "\x00'"
		default:
			continue
		}
		literals = append(literals, l)
		template.WriteString(sql[end:t.start] + placeholder)
		end = t.end
	}
	template.WriteString(sql[end:])
	if strings.Contains(template.String(), "--") || strings.Contains(template.String(), "/*") {
		return sql, nil
	}
	return template.String(), literals
}
