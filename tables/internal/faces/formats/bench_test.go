package formats

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkRead reads a million rows of six columns as CSV and as JSON lines.
func BenchmarkRead(b *testing.B) {
	var csv, lines strings.Builder
	csv.WriteString("id,price,sym,at,flag,note\n")
	for i := range 1_000_000 {
		price, at, flag := float64(i%9973)/7, fmt.Sprintf("2026-01-%02d 09:%02d:%02d.%03d", 1+i%28, i%60, i/60%60, i%1000), i%3 == 0
		fmt.Fprintf(&csv, "%d,%g,S%d,%s,%t,\"note, %d\"\n", i, price, i%50, at, flag, i)
		fmt.Fprintf(&lines, "{\"id\":%d,\"price\":%g,\"sym\":\"S%d\",\"at\":%q,\"flag\":%t,\"note\":\"note, %d\"}\n", i, price, i%50, at, flag, i)
	}
	for name, text := range map[string]string{"x.csv": csv.String(), "x.jsonl": lines.String()} {
		in := fileOf(b, name, text)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				r, err := in.Read(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				rows := int64(0)
				for r.Next() {
					rows += r.RecordBatch().NumRows()
				}
				if r.Release(); rows != 1_000_000 || r.Err() != nil {
					b.Fatalf("read %d rows, %v, want 1,000,000", rows, r.Err())
				}
			}
		})
	}
}
