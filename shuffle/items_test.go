package shuffle

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestItemsInChunks divides a value at each byte. All items must be complete, including one whose length has two bytes.
func TestItemsInChunks(t *testing.T) {
	want := []string{"a", "", strings.Repeat("b", 300), "c"}
	var value []byte
	for _, item := range want {
		value = append(binary.AppendUvarint(value, uint64(len(item))), item...)
	}
	for i := range value {
		var s items
		var got []string
		use := func(_, content []byte) error {
			got = append(got, string(content))
			return nil
		}
		must.Do(t, s.add("k", value[:i], false, use))
		must.Do(t, s.add("k", value[i:], true, use))
		if !slices.Equal(got, want) {
			t.Errorf("divided at byte %d, the value has the items %q, want %q", i, got, want)
		}
	}
}
