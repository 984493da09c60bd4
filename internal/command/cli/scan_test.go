package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/stores"
)

// TestScanLines checks that each line that the scan command prints contains at most 1 MiB of a value, no matter how the
// store splits its values. Only an empty value has a line without bytes.
func TestScanLines(t *testing.T) {
	const mega = 1 << 20
	lines := map[string]int{"": 1, "empty": 1, "one": 1, "full": 1, "more": 2, "large": 4, "\xff": 1}
	sizes := map[string]int{"": 3, "empty": 0, "one": 1, "full": mega, "more": mega + 1, "large": 3*mega + 5, "\xff": 2}
	for _, scheme := range []string{"file:", "log:", "zstd+file:"} {
		t.Run(scheme, func(t *testing.T) {
			url := scheme + t.TempDir() + "/store"
			store := must.Get(stores.Open(t.Context(), url))(t)
			want := map[string][]byte{}
			for key, size := range sizes {
				want[key] = bytes.Repeat([]byte(key+"0123456789"), size/10+1)[:size]
				must.Do(t, partd.Set(t.Context(), store, key, want[key]))
			}
			must.Do(t, partd.Close(t.Context(), store))
			seen, got := map[string]int{}, map[string][]byte{}
			for part := range 3 {
				out := must.Get(program(t, "scan", "--store", url, "--part", fmt.Sprintf("%d/3", part)).Output())(t)
				for line := range bytes.Lines(out) {
					var r scanRecord
					d := json.NewDecoder(bytes.NewReader(line))
					d.DisallowUnknownFields()
					must.Do(t, d.Decode(&r))
					key := string(r.KeyBase64)
					if r.Key != nil {
						key = *r.Key
					}
					if r.Offset != int64(len(got[key])) || len(r.ValueBase64) > mega {
						t.Fatalf("key %q has a line of %d bytes at offset %d, want at most 1 MiB at offset %d", key, len(r.ValueBase64), r.Offset, len(got[key]))
					}
					got[key] = append(got[key], r.ValueBase64...)
					if seen[key]++; r.Last != (seen[key] == lines[key]) {
						t.Errorf("key %q, line %d of %d: last = %v", key, seen[key], lines[key], r.Last)
					}
				}
			}
			length := 0
			for key, value := range want {
				if !bytes.Equal(got[key], value) || seen[key] != lines[key] {
					t.Errorf("key %q has %d bytes in %d lines, want %d in %d", key, len(got[key]), seen[key], len(value), lines[key])
				}
				length += len(value)
			}
			values, err := program(t, "scan", "--store", url, "--values").Output()
			if err != nil || len(values) != length || len(got) != len(want) {
				t.Errorf("scan --values prints %d bytes, want %d; scan prints %d keys, want %d; error %v", len(values), length, len(got), len(want), err)
			}
		})
	}
}
