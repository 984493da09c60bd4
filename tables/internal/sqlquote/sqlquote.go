// Package sqlquote writes names and texts as SQL does.
package sqlquote

import "strings"

// Name is a name in double quotes.
func Name(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// Within is a name in another, which may be none.
func Within(outer, name string) string {
	if outer == "" {
		return Name(name)
	}
	return Name(outer) + "." + Name(name)
}

// Text is a text in single quotes.
func Text(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
