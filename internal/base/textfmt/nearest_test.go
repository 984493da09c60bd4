package textfmt

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{strings.Repeat("user", 20) + "s", "user", "amount", "Origin State", "group", "größe", "id"}
	for word, want := range map[string]string{
		"usr": "user", "USER": "user", "amuont": "amount", "origin_state": "Origin State", "gruop": "group", "grosse": "",
		"größen": "größe", "xyz": "", "": "", "x": "", "ID": "id", "users": "user", "groub by": "",
		strings.Repeat("user", 20): "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if got := Hint("usr", names); got != ` (did you mean "user"?)` {
		t.Errorf("Hint = %q, want the name user", got)
	}
}
