package bulk

import "testing"

// TestPlainName checks that null and an empty text have different names.
func TestPlainName(t *testing.T) {
	empty, text := "", `a,"b`
	for want, texts := range map[string][]*string{
		"": {&empty}, `a,"b`: {&text}, ",": {nil, nil}, `,""`: {nil, &empty}, `"",`: {&empty, nil}, `"",""`: {&empty, &empty}, `"a,""b",`: {&text, nil},
	} {
		if got := plainName(texts); got != want {
			t.Errorf("plainName = %q, want %q", got, want)
		}
	}
}
