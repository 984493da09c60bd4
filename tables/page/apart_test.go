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

// broken has a column whose length is negative, at which the library panics in a
// goroutine of its own.
const broken = "UEFSMRUAFSwVLCwVBBUAFQYVBhwAAAACAAAABAEBAAAAAAAAAAIAAAAAAAAAFQAVKBUoLBUEFQAVBhUGHAAAAAIAAACKAgMAAABhYmMDAAAAYWJkFQAVQBVALBUKFQAVBhUGHAAAAAIAAAADGgIAAAAKBAEAAAACAAAAAQAAAAIAAAADAAAA" +
	"FQQZfEgGc2NoZW1hFQQAFQQlAhgBYSUkTKwTQBEAAAA1AhgBcxUEABUMJQIYAXglAEwcAAAANQIYAXkVAhUGTDwAAAA1BBgEbGlzdBUCABUCJQIYB2VsZW1lbnQlIkysEyARAAAAFgQZHBk8JggcFQQZJQAGGRgBYRUAFgQWUhZSJghJHBUA" +
	"FQAVAgAAACZaHBUMGSUABhkoAXMBeBUAFgQWThZOJlpJHBUAFQAVAgAAACaoARwVAhklAAYZSAFzAXkEbGlzdAdlbGVtZW50FQAWChZmFmEmqAFJHBUAFQAVAgAAABaGAhYEJggWhgIUAAAZDBgZcGFycXVldC1nbyB2ZXJzaW9uIDE4Ljgu" +
	"MBk8HAAAHAAAHAAAABsBAABQQVIx"

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
	decoded := func(text string) string {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	sparse := func(columns, lines int) string {
		var b strings.Builder
		b.WriteString(`{"c":1`)
		for i := range columns - 1 {
			fmt.Fprintf(&b, `,"c%d":1`, i)
		}
		return b.String() + "}\n" + strings.Repeat("{}\n", lines)
	}
	before := memoryNow(t)
	for _, f := range []struct{ name, format, body, says string }{
		{"a text of 1 MiB in each row", "parquet", decoded(bomb), "of memory"},
		{"columns that lines lack", "jsonl", sparse(1<<16, 16<<10), "put it in smaller parts"},
		{"a panic in a goroutine of the library", "parquet", decoded(broken), "the file is damaged"},
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
