package storeerror

import (
	"errors"
	"strings"
	"testing"
)

// TestLimits checks each limit at its last value and at the next one. The values take no memory, because nothing writes
// to them.
func TestLimits(t *testing.T) {
	key, value := strings.Repeat("k", MaxKeyLen+1), make([]byte, MaxValueLen+1)
	first, second := entry{"", value[1:]}, entry{"k", value[1:]}
	for _, tc := range []struct {
		entries []entry
		bytes   int64  // of the values
		key     string // of the error
		text    string
	}{
		{entries: []entry{{key[1:], nil}}},
		{entries: []entry{{"a", nil}, {key, nil}}, key: key, text: "too large: the key has 65536 bytes, the limit is 65535"},
		{entries: []entry{second}, bytes: MaxValueLen},
		{entries: []entry{{key[1:], value}}, key: key[1:], text: "too large: the value has 2147483648 bytes, the limit is 2147483647: append it in parts"},
		{entries: []entry{first, second}, bytes: MaxBatchLen - 1},
		{entries: []entry{second, second}, text: "too large: a batch of 2 entries holds 4294967296 bytes, the limit is 4294967295: append it in parts"},
	} {
		bytes, err := CheckEntries("append", tc.entries)
		if (tc.text == "") != (err == nil) || bytes != tc.bytes {
			t.Fatalf("%.80q: %d bytes, error %v", tc.text, bytes, err)
		}
		if err != nil && (err.Op != "append" || err.Key != tc.key || err.HasKey != (tc.key != "") || err.Err.Error() != tc.text || !errors.Is(err.Err, ErrTooLarge)) {
			t.Errorf("the error is %+.300v, want %q", err, tc.text)
		}
	}
	if err := CheckKeys("get", []string{"", key[1:]}); err != nil {
		t.Error(err)
	}
	if err := CheckKeys("get", []string{"", key}); err == nil || err.Op != "get" || err.Key != key || !strings.Contains(err.Err.Error(), "the key has 65536 bytes") {
		t.Errorf("the error is %+.300v", err)
	}
	for _, tc := range [][3]int{{0, 1, 1}, {0, MaxParts, 1}, {MaxParts - 1, MaxParts, 1}, {0, MaxParts + 1, 0}, {0, 0, 0}, {-1, 1, 0}, {1, 1, 0}} {
		if err := CheckPart(tc[0], tc[1]); (err == nil) != (tc[2] == 1) {
			t.Errorf("part %d of %d: %v", tc[0], tc[1], err)
		}
	}
}

func TestQuoteKey(t *testing.T) {
	a := strings.Repeat("a", 40)
	for key, want := range map[string]string{a + a: `"` + a + a + `"`, a + "b" + a: `"` + a + `"…"` + a[:20] + `" (81 bytes)`, "\n": `"\n"`} {
		if got := QuoteKey(key); got != want {
			t.Errorf("%q is quoted as %s, want %s", key, got, want)
		}
	}
}
