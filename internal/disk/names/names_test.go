package names

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ key, name, folded string }{
		{"", "%", "%"},
		{"plain-key_1.(2) x", "plain-key_1.(2) x", "plain-key_1.(2) x"},
		{"Key", "Key", "%4Bey"},
		{"key", "key", "key"},
		{".", "%2E", "%2E"},
		{"..", "%2E.", "%2E."},
		{".lock", "%2Elock", "%2Elock"},
		{".LOCK", ".LOCK", ".%4C%4F%43%4B"},
		{"...", "...", "..."},
		{"a/b", "a%2Fb", "a%2Fb"},
		{"../x", "..%2Fx", "..%2Fx"},
		{"/etc/x", "%2Fetc%2Fx", "%2Fetc%2Fx"},
		{"a!b", "a%21b", "a%21b"},
		{"a%21b", "a%2521b", "a%2521b"},
		{"%undo", "%25undo", "%25undo"},
		{"%tmp", "%25tmp", "%25tmp"},
		{"%", "%25", "%25"},
		{"nul\x00", "nul%00", "nul%00"},
		{"line\n", "line%0A", "line%0A"},
		{"\xff\xfe", "%FF%FE", "%FF%FE"},
		{"é", "%C3%A9", "%C3%A9"},
		{"e\u0301", "e%CC%81", "e%CC%81"},
		{long[:255], long[:255], long[:255]},
	} {
		if got := (Scheme{}).Name(c.key); got != c.name {
			t.Errorf("Name(%q) = %q, want %q", c.key, got, c.name)
		}
		if got := (Scheme{FoldsCase: true}).Name(c.key); got != c.folded {
			t.Errorf("with FoldsCase: Name(%q) = %q, want %q", c.key, got, c.folded)
		}
	}
	for _, key := range []string{long, strings.Repeat("x", 65535), strings.Repeat("!", 86)} {
		name := Scheme{}.Name(key)
		if _, kind := (Scheme{}).Parse(name); kind != Long || len(name) != 66 {
			t.Errorf("a key of %d bytes has the name %q, want one of kind Long", len(key), name)
		}
		keyName, ok := KeyFile(name)
		if _, kind := (Scheme{}).Parse(keyName); !ok || kind != Own {
			t.Errorf("KeyFile for a key of %d bytes = %q, %v, want a name of kind Own", len(key), keyName, ok)
		}
	}
}

// TestParseForeign checks that Parse reports names that Name never returns as Foreign.
func TestParseForeign(t *testing.T) {
	for _, name := range []string{
		"%41", "%2e", "%2", "%zz", "a!b", "a%2G", "%h", "%h12", "%k12", "%undo2", "é", "a~", ".", "..",
		"a%20b", "%2E%2E", "%2Elocl", "%u", "%H" + strings.Repeat("0", 64), "%h" + strings.Repeat("A", 64),
		strings.Repeat("%21", 86), strings.Repeat("x", 256),
	} {
		if key, kind := (Scheme{}).Parse(name); kind != Foreign {
			t.Errorf("Parse(%q) = %q, %v, want a foreign name", name, key, kind)
		}
	}
	for _, name := range []string{Lock, Journal, Temp, Temp + "1"} {
		if _, kind := (Scheme{}).Parse(name); kind != Own {
			t.Errorf("Parse(%q) returns the kind %v, want Own", name, kind)
		}
	}
	if _, kind := (Scheme{FoldsCase: true}).Parse("Key"); kind != Foreign {
		t.Errorf("with FoldsCase: Parse(Key) returns the kind %v, want Foreign", kind)
	}
}

func FuzzName(f *testing.F) {
	for _, key := range []string{"", ".", "..", ".lock", "a!b", "ab", "%undo", "%h", "\x00", "É", strings.Repeat("y", 300)} {
		f.Add(key, key+"x", true)
		f.Add(key, "%"+key, false)
	}
	f.Fuzz(func(t *testing.T, a, b string, folds bool) {
		s := Scheme{FoldsCase: folds}
		nameA, nameB := s.Name(a), s.Name(b)
		if a != b && (nameA == nameB || folds && strings.EqualFold(nameA, nameB)) {
			t.Fatalf("the keys %q and %q have the names %q and %q, want names for different files", a, b, nameA, nameB)
		}
		if nameA == "" || nameA == "." || nameA == ".." || len(nameA) > 255 || strings.ContainsAny(nameA, "/\x00") {
			t.Fatalf("the key %q has the name %q, which no file can have", a, nameA)
		}
		switch key, kind := s.Parse(nameA); kind {
		case Short:
			if key != a {
				t.Fatalf("the key %q has the name %q, which Parse reads as the key %q", a, nameA, key)
			}
		case Long:
		default:
			t.Fatalf("the name %q of the key %q is of kind %v, want Short or Long", nameA, a, kind)
		}
		// Parse accepts a name only if Name returns it.
		if key, kind := s.Parse(b); kind == Short && s.Name(key) != b {
			t.Fatalf("Parse(%q) returns the key %q, whose name is %q", b, key, s.Name(key))
		}
	})
}
