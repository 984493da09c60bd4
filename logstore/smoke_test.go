package logstore

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem()
	for _, hash := range []func(string) uint64{nil, func(string) uint64 { return 7 }, func(k string) uint64 { return uint64(len(k)) << 56 }} {
		for _, c := range []Compression{None, S2, Zstd} {
			dir := fmt.Sprint("/d", c, hash == nil, hash != nil && hash("a") == 7)
			h := hooks{fs: mem, tableBytes: 40 << 10, blobBytes: 1000, readBytes: 16 << 10, batchBytes: 4 << 10, hash: hash}
			s, err := open(dir, &Options{Compression: c}, h)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]byte{}
			for i := range 3000 {
				var es []partd.Entry
				for j := range 5 {
					k := fmt.Sprintf("k%d", (i*j*7+i)%97)
					if j == 3 {
						k = "hot"
					}
					v := bytes.Repeat([]byte{byte(i), byte(j)}, (i*31+j)%60)
					if i%100 == 0 {
						v = bytes.Repeat([]byte{byte(i), byte(j)}, 3000)
					}
					es = append(es, partd.Entry{Key: k, Value: v})
					if len(v) > 0 {
						want[k] = append(want[k], v...)
					}
				}
				if err := s.Append(ctx, es...); err != nil {
					t.Fatal(err)
				}
				if i%500 == 499 {
					k := fmt.Sprintf("k%d", i%97)
					s.Delete(ctx, k)
					delete(want, k)
					s.Set(ctx, "set", []byte("x"))
					s.Append(ctx, partd.Entry{Key: "set", Value: []byte("y")})
					want["set"] = []byte("xy")
				}
				if i == 1500 {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					if s, err = open(dir, &Options{Compression: c}, h); err != nil {
						t.Fatal(err)
					}
				}
			}
			for round := range 2 {
				got := map[string][]byte{}
				for c, err := range s.Scan(ctx) {
					if err != nil {
						t.Fatal(err)
					}
					if int64(len(got[c.Key])) != c.Offset {
						t.Fatal("offset", c.Key, c.Offset, len(got[c.Key]))
					}
					got[c.Key] = append(got[c.Key], c.Data...)
				}
				if len(got) != len(want) {
					t.Fatal(len(got), len(want))
				}
				for k := range want {
					if !bytes.Equal(got[k], want[k]) {
						t.Fatal(k, len(got[k]), len(want[k]))
					}
					v, err := s.Get(ctx, k)
					if err != nil || !bytes.Equal(v[0], want[k]) {
						t.Fatal(k, err, len(v[0]), len(want[k]))
					}
				}
				n := 0
				for k, err := range s.Keys(ctx) {
					if err != nil || k.Size != int64(len(want[k.Key])) {
						t.Fatal(k, err, len(want[k.Key]))
					}
					n++
				}
				if n != len(want) {
					t.Fatal(n)
				}
				if _, err := s.Verify(ctx); err != nil {
					t.Fatal(err)
				}
				if round == 0 {
					s.Append(ctx, partd.Entry{Key: "late", Value: []byte("v")})
					want["late"] = []byte("v")
					kill := mem.KillClone()
					h.fs = kill
					k, err := open(dir, &Options{Compression: c}, h)
					if err != nil {
						t.Fatal(err)
					}
					s.Close()
					mem = kill
					s = k
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
