// Package sqlquote writes names and texts as SQL does.
package sqlquote

import "strings"

// Name is a name in double quotes.
func Name(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// Text is a text in single quotes.
func Text(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
