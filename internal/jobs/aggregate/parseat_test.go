package aggregate

import "testing"

// TestParseAt checks that ParseAt and ParseNumber agree.
func TestParseAt(t *testing.T) {
	for _, text := range []string{
		"", "-", "--1", "-.", ".", "-.5", "-5.", "0", "-0", "-0.0", "-1", "-12.25", "-1234567", "-12345678", "12345678", "123456789", "-1e3", "- 1", " -1", "+1", "-+1", "-x", "1.5",
	} {
		for _, suffix := range []string{"", ",1", ",12345678", "9999999999"} {
			got, ok := ParseAt([]byte(text+suffix), 0, uint32(len(text)))
			if want, wantOK := ParseNumber([]byte(text)); got != want || ok != wantOK {
				t.Errorf("ParseAt(%q) before %q = %v, %t, want %v, %t", text, suffix, got, ok, want, wantOK)
			}
		}
	}
}
