package sqlwrite

import "strings"

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
	end := 0 // of the last literal
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
