package nearest

import "testing"

func TestTo(t *testing.T) {
	names := []string{"user", "amount", "Origin State", "group", "größe", "id"}
	for word, want := range map[string]string{
		"usr": "user", "USER": "user", "amuont": "amount", "origin_state": "Origin State", "gruop": "group", "grosse": "",
		"größen": "größe", "xyz": "", "": "", "x": "", "ID": "id", "users": "user", "groub by": "",
	} {
		if got := To(word, names); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got := Hint("usr", names); got != ` (did you mean "user"?)` {
		t.Errorf("%s", got)
	}
}
