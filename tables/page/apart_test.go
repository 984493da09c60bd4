package page

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/flightd"
)

// bomb is a column of 16,384 texts of 1 MiB, all the same, as pyarrow packs them.
const bomb = "UEFSMRUEFYiAgAEVekwVAhUAEgAAKLUv/YBIBAAQAGwAACgAABAAeAEA+P850AICABB4AgAQeAIAEHgCABB4AgAQeAIAEHgCABB4IQAAeHh4eBUAFRoVLCwVgIACFRAVBhUGHAAAACi1L/0gDWkAAAQAAACAgAIBAYCA" +
	"AgAVBBksNQAYBnNjaGVtYRUCABUMJQIYAWElAEwcAAAAFoCAAhkcGRwmABwVDBk1AAYQGRgBYRUMFoCAAhbugIABFvIBJqQBJggpLBUEFQAVAgAVABUQFQIAPBaAgICAgAEZBhkmAICAAgAAABbugIABFoCAAiYIFvIBACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwAAACiAAAAUEFSMQ=="

func memoryNow(t *testing.T) (n int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("there is no /proc here")
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// Files that take all memory, or end the process that reads them, are errors of
// their requests.
func TestHostileFiles(t *testing.T) {
	s := serve(t, flightd.Options{Memory: 600 << 20})
	parquet, err := base64.StdEncoding.DecodeString(bomb)
	if err != nil {
		t.Fatal(err)
	}
	var wide strings.Builder
	wide.WriteByte('{')
	for i := range 1 << 16 {
		fmt.Fprintf(&wide, `"c%d":1,`, i)
	}
	sparse := strings.TrimSuffix(wide.String(), ",") + "}\n" + strings.Repeat("{}\n", 16<<10)
	before := memoryNow(t)
	for _, f := range []struct{ name, format, body, says string }{
		{"a text of 1 MiB in each row", "parquet", string(parquet), "of memory"},
		{"columns that lines lack", "jsonl", sparse, "far more values than bytes"},
		{"a panic in a goroutine of the library", "parquet", panics(t), "the file is damaged"},
	} {
		began := time.Now()
		a, text := s.post("/api/put?table=t&format="+f.format, f.body)
		s.wants(a, text, 400, "the body: ", f.says)
		grown := memoryNow(t) - before
		t.Logf("%s: %v, %d MiB, %s", f.name, time.Since(began), grown>>20, text)
		if grown > 300<<20 {
			t.Errorf("%s: the server took %d MiB", f.name, grown>>20)
		}
	}
	a, text := s.post("/api/put?table=t&format=csv", "x\n1\n")
	s.wants(a, text, 200, `"rows":1`)
}
