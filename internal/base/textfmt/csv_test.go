package textfmt

import (
	"strings"
	"testing"
)

// TestAppendCSV checks that a CSV field is quoted if and only if it contains a special byte, begins with one that only the
// first byte must not be, or is a text for null.
func TestAppendCSV(t *testing.T) {
	for n := range 40 {
		plain := strings.Repeat("x", n)
		if got := string(AppendCSV(nil, []byte(plain), ',')); got != plain {
			t.Errorf("AppendCSV of %q = %q", plain, got)
		}
		for i := range n {
			for _, special := range []string{",", "\"", "\n", "\r"} {
				field := plain[:i] + special + plain[i+1:]
				want := `"` + strings.ReplaceAll(field, `"`, `""`) + `"`
				if got := string(AppendCSV(nil, []byte(field), ',')); got != want {
					t.Errorf("AppendCSV of %q = %q, want %q", field, got, want)
				}
			}
		}
	}
	for field, quoted := range map[string]bool{
		"": false, " x": true, "\tx": true, " ": true, "\ufeffx": true, "\uff21": true, "x ": false, "x\ufeff": false, "\x00x": false, `\.`: false, "'x'": false, "é": false, "NA": false,
	} {
		want := field
		if quoted {
			want = `"` + field + `"`
		}
		if got := string(AppendCSV(nil, []byte(field), ',')); got != want {
			t.Errorf("AppendCSV of %q = %q, want %q", field, got, want)
		}
		if got := string(AppendCSV(nil, []byte(field), ',', "NA", field)); got != `"`+field+`"` {
			t.Errorf("AppendCSV of the null text %q = %q, want quotes", field, got)
		}
	}
}
