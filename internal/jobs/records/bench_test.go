package records

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
)

// BenchmarkSplit splits 64 MiB of each format and finds the keys.
func BenchmarkSplit(b *testing.B) {
	text := "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"
	for _, c := range []struct {
		name   string
		layout Layout
		by     Field
		line   func(i int) string
	}{
		{"csv", Layout{Format: CSV, NoHeader: true}, Field{Index: 1}, func(i int) string {
			return fmt.Sprintf("%d,key%06d,%d,%d.25,%s\n", i, i%1000, i%77777, i%999, text)
		}},
		{"csv-quoted", Layout{Format: CSV, NoHeader: true}, Field{Index: 1}, func(i int) string {
			return fmt.Sprintf("%d,\"key%06d\",%d,%d.25,\"%s, \"\"x\"\"\"\n", i, i%1000, i%77777, i%999, text)
		}},
		{"tsv", Layout{Format: TSV, NoHeader: true}, Field{Index: 1}, func(i int) string {
			return fmt.Sprintf("%d\tkey%06d\t%d\t%d.25\t%s\n", i, i%1000, i%77777, i%999, text)
		}},
		{"text-last", Layout{Format: Text}, Field{Index: -1}, func(i int) string {
			return fmt.Sprintf("%-60s key%06d\n", fmt.Sprintf("usr/share/doc/package/%d", i), i%1000)
		}},
		{"jsonl", Layout{Format: JSONL}, Field{Name: "key"}, func(i int) string {
			return fmt.Sprintf(`{"id":%d,"key":"key%06d","v1":%d,"text":"%s"}`+"\n", i, i%1000, i%77777, text)
		}},
	} {
		var data bytes.Buffer
		for i := 0; data.Len() < 64<<20; i++ {
			data.WriteString(c.line(i))
		}
		b.Run("find/"+c.name, func(b *testing.B) {
			b.SetBytes(int64(data.Len()))
			b.ReportAllocs()
			for b.Loop() {
				s := NewSplitter(c.layout, []Field{c.by}, nil)
				s.Begin()
				for rest := data.Bytes(); len(rest) > 0; rest = rest[s.Pos():] {
					s.Feed(rest[:min(len(rest), 4<<20)], len(rest) <= 4<<20)
					kind := s.Next()
					for kind == Data {
						kind = s.Next()
					}
					if kind != More {
						b.Fatal(s.Err)
					}
				}
			}
		})
		b.Run("read/"+c.name, func(b *testing.B) {
			b.SetBytes(int64(data.Len()))
			b.ReportAllocs()
			cfg := Config{Layout: c.layout, Fields: []Field{c.by}, Workers: 2, Block: 1 << 20, MaxRecord: 64 << 20}
			in := []Input{{Name: "x", Size: int64(data.Len()), Open: func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(data.Bytes())), nil
			}}}
			for b.Loop() {
				t, err := Read(context.Background(), in, cfg, func(b *Block) error {
					for b.Next() {
					}
					return nil
				})
				if err != nil || t.RecordBytes != int64(data.Len()) {
					b.Fatal(t, err)
				}
			}
		})
	}
}
